/** Where a thread of Node finds files of the disk: a name that no network can have (RFC 2606). */
export const DISK = "https://disk.invalid/";
