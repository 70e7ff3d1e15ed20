/** The library as a page imports it, in the hands of whoever drives the page. */

import * as library from "../../../www/index.js";

Object.assign(globalThis, { library });
