// probe.js LOG POST: reads WordPress's front page ten times a second and comments on POST once a second, until
// SIGTERM. Each request is a new connection and a line of LOG: when it began (seconds), how long it took
// (milliseconds), get or post, ok or failed, and what was sent or what went wrong. It waits for each answer.
// SITE, WORDPRESS_USER and WORDPRESS_PASSWORD as for browser.js.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');

const { SITE, WORDPRESS_USER, WORDPRESS_PASSWORD } = process.env;
const [log, post] = process.argv.slice(2);
let stopped = false;
process.on('SIGTERM', () => { stopped = true; });

function request(path, form, cookie = '') {
  return new Promise((resolve, reject) => {
    const body = form && new URLSearchParams(form).toString();
    const headers = body ? { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': body.length } : {};
    const sent = http.request(SITE + path, {
      method: body ? 'POST' : 'GET', agent: false, signal: AbortSignal.timeout(30000), headers: { ...headers, cookie },
    }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => { text += part; });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

// Throws unless the front page is there, whole.
async function read() {
  const { status, text } = await request('/');
  if (status !== 200 || !text.includes('</html>')) throw new Error(`status ${status}`);
  return '';
}

// WordPress tells by a redirect to the comment that it has taken it.
let number = 0;
async function comment(cookie) {
  const text = `comment-${++number}`;
  const { status, headers } = await request('/wp-comments-post.php', { comment_post_ID: post, comment: text }, cookie);
  if (status !== 302 || !/#comment-\d+$/.test(headers.location)) throw new Error(`${text}: status ${status}`);
  return text;
}

async function repeat(kind, pause, action) {
  while (!stopped) {
    const begin = Date.now();
    let result;
    try {
      result = `ok ${await action()}`;
    } catch (error) {
      result = `failed ${error.message}`;
    }
    fs.appendFileSync(log, `${(begin / 1000).toFixed(3)} ${Date.now() - begin} ${kind} ${result}\n`);
    await sleep(Math.max(0, begin + pause - Date.now()));
  }
}

async function main() {
  const { status, headers } = await request('/wp-login.php', { log: WORDPRESS_USER, pwd: WORDPRESS_PASSWORD });
  if (status !== 302) throw new Error(`the login failed: status ${status}`);
  const cookie = headers['set-cookie'].map((line) => line.split(';')[0]).join('; ');
  await Promise.all([repeat('get', 100, read), repeat('post', 1000, () => comment(cookie))]);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
