/** Folders that a browser extension brings along. Their addresses are none that the engine knows; nothing of them goes over a network. */

/** Where they are to the engine: a name that no network can have (RFC 2606). */
const EXTENSION = "https://extension.invalid/";

const EXTENSION_SCHEMES = ["chrome-extension:", "moz-extension:", "safari-web-extension:"];

/** The address by which the worker asks for what is at `url`, which may be of the extension that this runs in. */
export const askedOfExtension = (url: URL): URL => (isOwn(url) ? new URL(url.pathname, EXTENSION) : url);

const isOwn = ({ protocol, host }: URL): boolean =>
  EXTENSION_SCHEMES.includes(protocol) && protocol === globalThis.location?.protocol && host === location.host;

/** The extension's own file; null where it has none, undefined where the address is another's. */
export async function ownFile({ origin, pathname }: URL): Promise<Blob | null | undefined> {
  if (origin !== new URL(EXTENSION).origin || !EXTENSION_SCHEMES.includes(location.protocol)) return undefined;
  // What is not there is a failed fetch to an extension, not an answer of 404.
  const response = await fetch(new URL(pathname, location.href)).catch(() => null);
  return response?.ok ? response.blob() : null;
}
