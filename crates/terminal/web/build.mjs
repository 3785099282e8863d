// Bundles the page into dist/, each file also compressed; with --tests, the tests into dist/tests/ instead.
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { build } from "esbuild";

const compress = promisify(gzip);

async function buildPage() {
  await rm("dist", { recursive: true, force: true });
  await build({
    entryPoints: ["src/terminal.ts", "src/editor.ts", "src/terminal.css"],
    outdir: "dist",
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome110", "firefox110", "safari16.4"],
    legalComments: "eof",
    logLevel: "warning",
  });
  for (const name of ["index.html", "editor.html", "editor-starting.html", "icon.svg"]) {
    await copyFile(`src/${name}`, `dist/${name}`);
  }
  for (const name of await readdir("dist")) {
    await writeFile(`dist/${name}.gz`, await compress(await readFile(`dist/${name}`), { level: 9 }));
  }
}

async function buildTests() {
  await rm("dist/tests", { recursive: true, force: true });
  await mkdir("dist/tests", { recursive: true });
  const tests = (await readdir("test")).filter((name) => name.endsWith(".test.ts"));
  await build({
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: "dist/tests",
    bundle: true,
    platform: "node",
    format: "esm",
    outExtension: { ".js": ".mjs" },
    logLevel: "warning",
  });
}

await (process.argv.includes("--tests") ? buildTests() : buildPage());
