import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Caption } from "./Caption.jsx";

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Caption />
  </StrictMode>,
);
