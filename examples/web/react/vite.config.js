export default {
  // The dev server bundles dependencies beforehand, and loses the worker that lies beside this one.
  optimizeDeps: { exclude: ["blip2-web"] },
  worker: { format: "es" },
};
