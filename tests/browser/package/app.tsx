/** An app of two components that use the same model, under StrictMode, which mounts everything twice. */

import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useBlip2 } from "blip2-web/react";

function Caption({ picture }: { readonly picture: string }) {
  const { blip2, status, error } = useBlip2("/models/demo");
  const [text, setText] = useState("");
  useEffect(() => {
    if (blip2 === null) return;
    const leaving = new AbortController();
    const { signal } = leaving;
    const write = async () => {
      const image = await blip2.encode(picture, { signal });
      const { text } = await image.caption({ signal });
      setText(text);
      await image.dispose();
    };
    write().catch((reason: unknown) => signal.aborted || setText(String(reason)));
    return () => leaving.abort();
  }, [blip2, picture]);
  return (
    <p className={status}>
      {text}
      {error !== null && String(error)}
    </p>
  );
}

const PICTURES = ["01-bee.png", "02-bicycle.png"];

function App() {
  const [shown, setShown] = useState(true);
  return (
    <>
      <button onClick={() => setShown(!shown)}>{shown ? "hide" : "show"}</button>
      {shown && PICTURES.map(name => <Caption key={name} picture={`/samples/${name}`} />)}
    </>
  );
}

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
