/** Short texts that this browser keeps for the page. It may be forbidden to: then nothing is there, and nothing stays. */

export function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Null: it is forgotten. Returns whether the browser will know it on the next visit. */
export function keep(key: string, text: string | null): boolean {
  try {
    if (text === null) localStorage.removeItem(key);
    else localStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}
