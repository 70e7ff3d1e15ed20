import { Caption } from "./Caption.jsx";

export default function Page() {
  return <Caption />;
}
