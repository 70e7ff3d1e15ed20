export default {
  // Before version 8 the dev server bundles dependencies beforehand, and loses the worker that lies beside this one. Since then it needs nothing of this.
  optimizeDeps: { exclude: ["blip2-web"] },
};
