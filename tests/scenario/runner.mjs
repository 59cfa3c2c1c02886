// Plays a scenario file with the AWS SDK for JavaScript: `node runner.mjs scenario.toml`.
//
// The file's own first lines say what a step is; runner.py is the same for boto3 and the AWS CLI. Settings come from the
// environment alone, as `hearth env` prints them; packages from the node_modules that HEARTH_TEST_NODE_MODULES names.

import { readFileSync } from "node:fs";
import https from "node:https";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

const require = createRequire(`${process.env.HEARTH_TEST_NODE_MODULES}/`);
const sdk = require("@aws-sdk/client-lambda-microvms");
const { S3Client, CreateBucketCommand, PutObjectCommand } = require("@aws-sdk/client-s3");
const { parse } = require("smol-toml");

const PAUSE_MS = 20;
const microvms = new sdk.LambdaMicrovmsClient({});
const s3 = new S3Client({});

async function call(operation, input) {
  const { $metadata, ...answer } = await microvms.send(new sdk[`${operation}Command`](input));
  return answer;
}

// Every page, and all items.
async function pages(operation, input) {
  const all = { items: [], pages: 0 };
  let nextToken;
  do {
    const page = await call(operation, { ...input, nextToken });
    all.items.push(...page.items);
    all.pages += 1;
    if (all.pages > 100) throw new Error("the list does not end");
    nextToken = page.nextToken;
  } while (nextToken);
  return all;
}

async function upload({ bucket, key, base64 }) {
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: Buffer.from(base64, "base64") }));
  return {};
}

// An HTTPS request to an endpoint. `*.localhost` is this host (RFC 6761), whatever the resolver thinks.
function request({ host, path = "/", method = "GET", headers = {}, body }) {
  const [servername, port = 443] = host.split(":");
  const ca = readFileSync(process.env.SSL_CERT_FILE);
  const options = { host: "127.0.0.1", port, servername, ca, path, method, headers: { Host: host, ...headers } };
  return new Promise((resolve, reject) => {
    const sent = https.request({ ...options, agent: false, timeout: 30_000 }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (part) => (text += part));
      answer.on("error", reject);
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, body: parsed(text) }));
    });
    sent.on("timeout", () => sent.destroy(new Error(`no answer from ${host}`)));
    sent.on("error", reject);
    sent.end(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// `value` with each ${name} replaced.
function filled(value, variables) {
  if (typeof value === "string") {
    return value.replace(/\$\{(\w+)\}/g, (_, name) => {
      if (!(name in variables)) throw new Error(`nothing was kept as ${name}`);
      return variables[name];
    });
  }
  if (Array.isArray(value)) return value.map((each) => filled(each, variables));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [filled(key, variables), filled(each, variables)]));
}

// What lies at a dotted path; undefined when there is nothing. `*` is each element of a list.
function look(value, path) {
  for (const [at, name] of path.entries()) {
    if (name === "*") return (value ?? []).map((each) => look(each, path.slice(at + 1)));
    value = value?.[name];
  }
  return value;
}

// Is it what the matcher wants?
function fits(found, wanted) {
  const only = wanted !== null && typeof wanted === "object" && Object.entries(wanted);
  const [kind, bound] = only && only.length === 1 ? only[0] : [];
  switch (kind) {
    case "absent":
      return (found === undefined || found === null) === bound;
    case "matches":
      return typeof found === "string" && new RegExp(bound).test(found);
    case "count":
      return found != null && (Array.isArray(found) ? found.length : Object.keys(found).length) === bound;
    case "recent":
      return found instanceof Date && Math.abs(Date.now() - found.getTime()) < bound * 1000;
    case "above":
      return typeof found === "number" && found > bound;
    case "has":
      return Array.isArray(found) && found.some((each) => isDeepStrictEqual(each, bound));
  }
  return isDeepStrictEqual(plain(found), plain(wanted));
}

// Without members that are undefined and without prototypes: what a reader of JSON would see.
function plain(value) {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

async function perform(step) {
  if (step.upload) return upload(step.upload);
  if (step.request) return request(step.request);
  return (step.pages ? pages : call)(step.call, step.input ?? {});
}

const shown = (value) => JSON.stringify(value);

// What came of the step, and what is wrong with it.
async function judged(step) {
  let answer;
  try {
    answer = await perform(step);
  } catch (error) {
    if (!(error instanceof sdk.LambdaMicrovmsServiceException)) throw error;
    const told = { status: error.$metadata.httpStatusCode, code: error.name, message: error.message };
    if (!step.error) return { wrong: [`refused: ${shown(told)}`] };
    const keys = Object.keys(step.error).filter((key) => !fits(told[key], step.error[key]));
    return { wrong: keys.map((key) => `${key} is ${shown(told[key])}, wanted ${shown(step.error[key])}`) };
  }
  if (step.error) return { answer, wrong: [`not refused, wanted ${shown(step.error)}`] };
  const facts = Object.entries(step.expect ?? {}).map(([path, wanted]) => [path, look(answer, path.split(".")), wanted]);
  const wrong = facts.filter(([, found, wanted]) => !fits(found, wanted));
  return { answer, wrong: wrong.map(([path, found, wanted]) => `${path} is ${shown(found)}, wanted ${shown(wanted)}`) };
}

async function play(template, variables) {
  const step = filled(template, variables);
  const end = performance.now() + (step.within ?? 0) * 1000;
  let outcome = await judged(step);
  while (outcome.wrong.length > 0 && performance.now() < end) {
    await sleep(PAUSE_MS);
    outcome = await judged(step);
  }
  const { answer, wrong } = outcome;
  for (const [name, path] of wrong.length > 0 ? [] : Object.entries(step.save ?? {})) {
    const value = look(answer, path.split("."));
    if (typeof value !== "string") wrong.push(`${path} is ${shown(value)}, which is no text to keep as ${name}`);
    variables[name] = value;
  }
  return wrong;
}

const steps = parse(readFileSync(process.argv[2], "utf8")).step;
const variables = {};
const operations = new Set();
for (const [at, step] of steps.entries()) {
  if (step.not_by?.includes("javascript")) continue;
  const wrong = await play(step, variables);
  if (wrong.length > 0) {
    console.error(`step ${at + 1}, ${step.say}: ${wrong.join("; ")}`);
    process.exit(1);
  }
  if (step.call) operations.add(step.call);
}
console.log(JSON.stringify({ steps: steps.length, operations: [...operations].sort() }));
