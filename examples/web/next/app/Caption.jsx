"use client";

import { useEffect, useState } from "react";
import { useBlip2 } from "blip2-web/react";

export function Caption() {
  const { blip2, status, error } = useBlip2("/models/demo");
  const [file, setFile] = useState(null);
  const [text, setText] = useState("");

  useEffect(() => {
    if (blip2 === null || file === null) return;
    const leaving = new AbortController();
    const { signal } = leaving;
    const write = async () => {
      setText("");
      const image = await blip2.encode(file, { signal });
      try {
        for await (const piece of image.caption({ signal })) setText(said => said + piece);
      } finally {
        await image.dispose();
      }
    };
    write().catch(reason => signal.aborted || setText(String(reason)));
    return () => leaving.abort();
  }, [blip2, file]);

  return (
    <>
      <label>
        A picture: <input type="file" accept="image/*" onChange={({ target }) => setFile(target.files[0] ?? null)} />
      </label>
      <output>{status === "error" ? String(error) : text}</output>
    </>
  );
}
