/** Counts what a page asks of WebGPU and of IndexedDB, whoever asks: the counts are the browser's own, not what an engine says of itself. */

export interface Calls {
  dispatches: number;
  submits: number;
  /** Buffers that were mapped to be read. */
  maps: number;
  /** Milliseconds inside of writeBuffer. */
  uploading: number;
  /** Milliseconds in which at least one request to IndexedDB was open. */
  storing: number;
}

/** WebGPU's `GPUMapMode.READ`, which TypeScript does not know in a worker. */
const MAP_READ = 1;

/** Listens from now on. Call it before the engine starts. */
export function listen(): Calls {
  const calls: Calls = { dispatches: 0, submits: 0, maps: 0, uploading: 0, storing: 0 };
  if ("GPUQueue" in globalThis) listenToGpu(calls);
  listenToStorage(calls);
  return calls;
}

function listenToGpu(calls: Calls): void {
  const { submit, writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.submit = function (buffers) {
    calls.submits += 1;
    return submit.call(this, buffers);
  };
  GPUQueue.prototype.writeBuffer = function (...words: Parameters<GPUQueue["writeBuffer"]>) {
    const start = performance.now();
    const result = writeBuffer.apply(this, words);
    calls.uploading += performance.now() - start;
    return result;
  };
  const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (x, y, z) {
    calls.dispatches += 1;
    return dispatchWorkgroups.call(this, x, y, z);
  };
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (mode, offset, size) {
    if (mode === MAP_READ) calls.maps += 1;
    return mapAsync.call(this, mode, offset, size);
  };
}

function listenToStorage(calls: Calls): void {
  let open = 0;
  let since = 0;
  const watch = (request: IDBRequest): void => {
    if (open === 0) since = performance.now();
    open += 1;
    const close = (): void => {
      open -= 1;
      if (open === 0) calls.storing += performance.now() - since;
    };
    request.addEventListener("success", close, { once: true });
    request.addEventListener("error", close, { once: true });
  };
  const { get, put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.get = function (key) {
    const request = get.call(this, key);
    watch(request);
    return request;
  };
  IDBObjectStore.prototype.put = function (...words: Parameters<IDBObjectStore["put"]>) {
    const request = put.apply(this, words);
    watch(request);
    return request;
  };
}
