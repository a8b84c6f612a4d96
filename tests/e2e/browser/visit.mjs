// One visit of a headless Chromium. Reads {chromium, url, steps} from standard input, prints what
// the browser itself has seen: every request it made, and what each step asked for.
import { createRequire } from "node:module";

const input = JSON.parse(await new Promise((done) => {
  let text = "";
  process.stdin.on("data", (chunk) => (text += chunk)).on("end", () => done(text));
}));
const { chromium } = createRequire(input.modules + "/")("playwright-core");

const browser = await chromium.launch({
  executablePath: input.chromium,
  headless: true,
  args: [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    // Every other host can't be reached, but asking for it is seen.
    "--host-resolver-rules=MAP *.shop.example 127.0.0.1,MAP * ~NOTFOUND,EXCLUDE 127.0.0.1",
  ],
});
// Nothing new has been fetched for a second: a leak would have shown.
function quiet() {
  const count = performance.getEntriesByType("resource").length;
  if (window.fetchedBefore !== count) {
    window.fetchedBefore = count;
    window.fetchedAt = performance.now();
  }
  return document.readyState === "complete" && performance.now() - window.fetchedAt > 1000;
}
// Asked from outside of the page: its CSP may forbid what Playwright's own waiting does inside.
async function comes(page, condition) {
  const end = Date.now() + 15000;
  while (!(await page.evaluate(condition).catch(() => false))) {
    if (Date.now() > end) {
      const shown = await page.evaluate("location.href + '\\n' + document.body.innerHTML").catch(String);
      throw new Error(`did not come: ${condition}\n${shown}`);
    }
    await page.waitForTimeout(25);
  }
}
const seen = { requests: [], console: [], steps: [] };
try {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  if (input.cookies) await context.addCookies(input.cookies);
  if (input.headers) await context.setExtraHTTPHeaders(input.headers);
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  context.on("request", (request) => seen.requests.push(`${request.method()} ${request.url()}`));
  page.on("pageerror", (error) => seen.console.push(String(error)));
  const answered = (path) =>
    page.waitForResponse((response) => new URL(response.url()).pathname === path && response.ok());
  for (const step of input.steps) {
    const waits = [].concat(step.until ?? []).map(answered);
    if (step.offline !== undefined) await context.setOffline(step.offline);
    if (step.open) await page.goto(input.url + step.open);
    if (step.reload) await page.reload();
    if (step.fill) await page.fill("input", step.fill);
    if (step.submit) {
      await Promise.all([page.waitForURL(input.url + step.submit), page.click("button")]);
    }
    if (step.run) await page.evaluate(step.run);
    await Promise.all(waits);
    if (step.when) await comes(page, step.when);
    if (step.quiet) await page.waitForFunction(quiet);
    seen.steps.push({
      value: step.value ? await page.evaluate(step.value) : null,
      cookies: await context.cookies(),
    });
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
