// Reads an AsyncAPI document from stdin, prints its errors, exits with 1 when there are some: node asyncapi_check.mjs FOLDER
// FOLDER holds node_modules with @asyncapi/parser.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
const require = createRequire(process.argv[2] + "/");
const {Parser} = require("@asyncapi/parser");
const {document, diagnostics} = await new Parser().parse(readFileSync(0, "utf8"));
for (const found of diagnostics) if (found.severity === 0) console.log(found.path.join("."), found.message);
process.exit(document ? 0 : 1);
