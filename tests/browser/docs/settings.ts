/** What stands around the code that the guides show, so that it can be run: what it takes for given, and what it then has to tell. */

export interface Setting {
  /** By this the code is known. The rest need not be the same in every language: comments differ. */
  readonly has: string;
  /** page: a module script. react: within a component. node: beside models/demo and picture.png. */
  readonly runs: "page" | "react" | "node";
  /** What comes before: TypeScript, in which `picture(n)` is the n-th sample, a File, and `tell(…)` hands words to the test. */
  readonly given: string;
  /** What comes behind it. */
  readonly behind: string;
  /** What is told, as JSON. */
  readonly tells: RegExp;
}

/** What the code writes into the console is kept. */
const HEARD = "const heard: unknown[] = []; console.log = (...words) => { heard.push(...words); };";

export const SETTINGS: readonly Setting[] = [
  {
    has: "out.textContent += piece",
    runs: "page",
    given: `${HEARD} const file = await picture(0); const out = document.createElement("p");`,
    // Numbers alone: an error would have been written as its code.
    behind: "tell(out.textContent?.trim(), heard.length > 2, heard.every(word => typeof word === 'number'));",
    tells: /^\["a bee[^"]*",true,true\]$/,
  },
  {
    has: 'until: "retrieval"',
    runs: "page",
    given: 'import { load } from "blip2-web"; const file = await picture(0);',
    behind: "tell((await image.caption()).text);",
    tells: /^\["a bee[^"]*"\]$/,
  },
  {
    has: "useBlip2",
    runs: "react",
    given: "",
    behind:
      "useEffect(() => { if (status !== 'loading') tell(status, blip2?.can('caption'), progress, error, typeof retry); }, [status]); return null;",
    tells: /^\["ready",true,null,null,"function"\]$/,
  },
  {
    has: 'blip2.encode("picture.png")',
    runs: "node",
    given: HEARD,
    behind: "tell(...heard);",
    tells: /^\["a bee[^"]*"\]$/,
  },
  {
    has: "image.chat()",
    runs: "page",
    given: `import { load } from "blip2-web"; const files = await Promise.all([0, 1, 2].map(picture));
      const image = await (await load("models/demo")).encode(await picture(0));`,
    behind: "tell(text, candidates.length, images.length, typeof best?.itm);",
    tells: /^\["[^"]+",3,3,"number"\]$/,
  },
  {
    has: "Blip2Processor.from_pretrained",
    runs: "page",
    given: 'import { Blip2ForConditionalGeneration, Blip2Processor } from "blip2-web"; const file = await picture(0);',
    behind: "tell(answer);",
    tells: /^\["[^"]+"\]$/,
  },
  {
    has: 'error.is("network")',
    runs: "page",
    given: `import { load as loadFrom, Blip2Error } from "blip2-web"; ${HEARD} const load = (source: string) => loadFrom(source + "/missing");`,
    behind: "tell(...heard);",
    tells: /^\["http:[^"]+\/models\/demo\/missing\/model\.safetensors\.index\.json",404\]$/,
  },
  {
    // Two servers stand for the hub and for the host that it leads to.
    has: "huggingface.co/OWNER",
    runs: "node",
    given: `import { load as loadFrom, type LoadOptions } from "blip2-web";
      const standIn = (address: string) => address.replace("https://huggingface.co", String(process.env["HUB"])).replace(/^https:.*/, String(process.env["CDN"]));
      const load = (source: string, { request }: LoadOptions) =>
        loadFrom(standIn(source), { request: { ...request, origins: (request?.origins ?? []).map(standIn) } });`,
    behind: `const refused = await load("https://huggingface.co/OWNER/NAME/resolve/main/", {}).catch((error: { code: string }) => error.code); tell(refused);`,
    tells: /^\["network"\]$/,
  },
];

/** What the right column of a table of calls takes for given, by the head of the left one. Each call runs in a page. */
export const CALLS: Readonly<Record<string, string>> = {
  transformers: `
    import { Blip2ForConditionalGeneration, Blip2ForImageTextRetrieval, Blip2Model, Blip2Processor, createEngine } from "blip2-web";
    const [url, file, text] = ["models/demo", await picture(0), "Question: What is this? Answer:"];
    const processor = await Blip2Processor.from_pretrained(url);
    const model = await Blip2ForConditionalGeneration.from_pretrained(url);
    const base = await Blip2Model.from_pretrained(url);
    const inputs = await processor.call({ images: file, text });
    const { pixel_values, input_ids } = inputs;
    const ids = await model.generate(inputs);
    const retrieval = await Blip2ForImageTextRetrieval.from_pretrained("models/itm");
    const pairs = await (await Blip2Processor.from_pretrained("models/itm")).call({ images: file, text: "a bee" });
    const image = await model.blip2.encode(file);
    const generation = image.caption();
    const { signal } = new AbortController();`,
  "transformers.js": `
    import { Blip2Processor, Blip2VisionModelWithProjection, createEngine, load } from "blip2-web";
    const [url, file, labels] = ["models/demo", await picture(0), ["a bee", "a bicycle"]];
    const blip2 = await load(url);
    const tower = await Blip2VisionModelWithProjection.from_pretrained("models/itm");
    const { pixel_values } = await (await Blip2Processor.from_pretrained("models/itm")).call({ images: file });
    const image = await blip2.encode(file);
    const retrieval = await load("models/itm");`,
};

/** What calls in the sentences of a guide take for given. They are compiled, not run. */
export const NAMED = `
  import { load, createEngine, folderStorage, type Blip2, type Blip2Image, type Engine, type StorageDriver } from "blip2-web";
  declare const blip2: Blip2, image: Blip2Image, engine: Engine, storage: StorageDriver;
  declare const url: string, source: string, file: File, text: string, texts: readonly string[];`;
