/** Tabs of one site take turns at fetching a model, by locks of the engine. Of those a page can see that somebody waits. */

/** What the engine's locks are called. */
const LOCKS = "blip2-web/";

/** Whether of two tabs one fetches what the other waits for. False where the browser does not tell. */
export async function taken(): Promise<boolean> {
  if (!("locks" in navigator)) return false; // plain http
  const { pending = [] } = await navigator.locks.query().catch(() => ({ pending: [] }));
  return pending.some(({ name = "" }) => name.startsWith(LOCKS));
}
