/** A picture from the camera, and one from an address: two small boxes, made when they are first wanted. */

import { h, say, setText, wordButton } from "./dom.js";
import { httpAddress } from "./drop.js";
import { Sheet } from "./sheet.js";
import { w } from "./words.js";

/** The camera is on only while its box is open. */
export class CameraBox {
  private readonly video = say(h("video", { autoplay: true, playsinline: true, muted: true }), "cameraPicture", "label");
  private readonly problem = h("p", { class: "problem", role: "alert", hidden: true });
  private readonly shoot: HTMLButtonElement;
  private readonly flip: HTMLButtonElement;
  private readonly sheet: Sheet;
  private readonly take: (file: File) => void;
  private stream: MediaStream | null = null;
  private facing: "environment" | "user" = "environment";

  constructor(take: (file: File) => void) {
    this.take = take;
    this.video.muted = true;
    this.shoot = wordButton("takePicture", () => void this.photograph(), "plain main");
    this.flip = wordButton("otherCamera", () => void this.turnAround());
    this.sheet = new Sheet("camera", "camera", "box", this.problem, this.video, h("div", { class: "row-of-buttons" }, this.flip, this.shoot));
    this.sheet.dialog.addEventListener("close", () => this.end());
  }

  async open(): Promise<void> {
    this.sheet.open();
    this.video.hidden = false;
    await this.start();
  }

  private async start(): Promise<void> {
    this.end();
    this.problem.hidden = true;
    this.shoot.hidden = false;
    this.shoot.disabled = true;
    try {
      const devices: MediaDevices | undefined = navigator.mediaDevices; // absent on plain http
      if (devices === undefined) throw new DOMException("", "SecurityError");
      const stream = await devices.getUserMedia({ video: { facingMode: this.facing, width: { ideal: 1920 } } });
      this.stream = stream;
      if (!this.sheet.dialog.open) return this.end(); // closed while the browser was asking
      this.video.srcObject = stream;
      await this.video.play();
      this.shoot.disabled = false;
      this.shoot.focus();
      const cameras = (await devices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
      this.flip.hidden = cameras.length < 2;
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      this.video.hidden = true;
      this.flip.hidden = true;
      this.shoot.hidden = true;
      this.problem.hidden = false;
      setText(this.problem, name === "NotAllowedError" ? w.cameraDenied : name === "SecurityError" ? w.cameraInsecure : w.cameraMissing);
    }
  }

  private async turnAround(): Promise<void> {
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.start();
  }

  private async photograph(): Promise<void> {
    const { videoWidth, videoHeight } = this.video;
    const canvas = new OffscreenCanvas(videoWidth, videoHeight);
    canvas.getContext("2d")?.drawImage(this.video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    this.sheet.close();
    this.take(new File([blob], `${w.cameraName} ${new Date().toLocaleTimeString(w.code)}.jpg`, { type: "image/jpeg" }));
  }

  private end(): void {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }
}

export class AddressBox {
  private readonly field = say(
    h("input", {
      type: "url",
      class: "field",
      id: "address-field",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "https://…",
      required: true,
    }),
    "addressOfPicture",
    "label",
  );
  private readonly sheet: Sheet;

  constructor(take: (url: URL) => void) {
    const form = h(
      "form",
      {},
      this.field,
      say(h("p", { class: "rest" }), "addressRest"),
      h("div", { class: "row-of-buttons" }, say(h("button", { type: "submit", class: "plain main" }), "fetchIt")),
    );
    form.addEventListener("submit", event => {
      event.preventDefault();
      const url = httpAddress(this.field.value);
      if (url === null) return;
      this.sheet.close();
      take(url);
    });
    this.sheet = new Sheet("address", "addressOfPicture", "box", form);
  }

  open(): void {
    this.field.value = "";
    this.sheet.open();
    this.field.focus();
  }
}
