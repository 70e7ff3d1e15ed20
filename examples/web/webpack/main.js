import { load } from "blip2-web";

const out = document.querySelector("output");
const loading = load("models/demo");

document.querySelector("input").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (file === undefined) return;
  out.textContent = "";
  const blip2 = await loading;
  const image = await blip2.encode(file);
  try {
    for await (const piece of image.caption()) out.append(piece);
  } finally {
    await image.dispose();
  }
});
