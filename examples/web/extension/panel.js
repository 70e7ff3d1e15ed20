import { load } from "./blip2-web/index.js";

// A folder within the extension. An address does as well, if manifest.json names its origin in host_permissions and in connect-src.
const MODEL = "models/demo";

const out = document.querySelector("output");
const loading = load(MODEL);

async function caption(file) {
  if (file === undefined) return;
  out.textContent = "";
  try {
    const blip2 = await loading;
    const image = await blip2.encode(file);
    try {
      for await (const piece of image.caption()) out.append(piece);
    } finally {
      await image.dispose();
    }
  } catch (error) {
    out.textContent = String(error);
  }
}

document.querySelector("input").addEventListener("change", ({ target }) => caption(target.files[0]));
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => {
  event.preventDefault();
  caption(event.dataTransfer.files[0]);
});
