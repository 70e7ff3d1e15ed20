export default {
  // Static files, in out/. Leave this out for `next start`.
  output: "export",
};
