// Reads deny lists with the verifier of the example in Node.js. Arguments: the folder of the example, with its packages,
// and that of the embedded key set. On stdin: [{name, document}]. Prints {name: null | "why not"}.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [example, keys] = process.argv.slice(2);
const { Verifier } = await import(pathToFileURL(`${example}/verifier.mjs`));
const verdicts = {};
for (const { name, document } of JSON.parse(readFileSync(0, "utf8"))) {
  const verifier = await Verifier.open(keys, "gitlab-ai-gateway");
  verdicts[name] = await verifier.takeDenyList(document).then(() => null, String);
}
console.log(JSON.stringify(verdicts));
