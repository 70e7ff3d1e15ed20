/** Answers of `fetch` that no network gives: files of a disk or of the user, for an engine that knows web addresses alone. */

/** From now on `fetch` asks `open` first: a file, null where it is to be there and is not, undefined for what the network has. */
export function answerLocally(open: (address: URL) => Promise<Blob | null | undefined>): void {
  const fromNetwork = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    // Where a bundler has put the wasm may be told by a path alone.
    const address = new URL(input instanceof Request ? input.url : input, globalThis.location?.href);
    const file = await open(address);
    if (file === undefined) return fromNetwork(input, init);
    if (file === null) return new Response(null, { status: 404 });
    const type = address.pathname.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
    const response = new Response(file.stream(), { headers: { "content-type": type, "content-length": String(file.size) } });
    // The engine looks where an answer came from; one that was made here says nothing of it.
    return Object.defineProperty(response, "url", { value: address.href });
  };
}
