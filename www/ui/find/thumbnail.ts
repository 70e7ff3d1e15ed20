/** A small picture of a picture, made by the browser. */

/** Twice the height of a row: for screens with fine pixels. */
const HEIGHT = 360;

export interface Thumbnail {
  readonly bytes: ArrayBuffer;
  readonly type: string;
  /** Width by height, of the upright picture. */
  readonly ratio: number;
}

/** Null where the browser cannot decode it (the engine may). */
export async function thumbnail(file: Blob): Promise<Thumbnail | null> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  try {
    const { width, height } = bitmap;
    const scale = Math.min(1, HEIGHT / height, (HEIGHT * 3) / width);
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    const context = canvas.getContext("2d");
    if (context === null) return null;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.82 });
    return { bytes: await blob.arrayBuffer(), type: blob.type, ratio: width / height };
  } finally {
    bitmap.close();
  }
}
