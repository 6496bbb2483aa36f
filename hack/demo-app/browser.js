// browser.js: a person at WordPress, and at phpMyAdmin, in headless Chromium.
//   install             WordPress's own installer
//   login
//   publish TITLE       a post, in the editor; prints its number and how many clicks it took
//   picture FILE        the front page
//   table FILE          WordPress's posts in phpMyAdmin, with the newest first; prints their titles
// SITE is WordPress's address, WORDPRESS_USER and WORDPRESS_PASSWORD who it is, SESSION a file that keeps the
// login from one call to the next, CHROMIUM the program; ADMIN is phpMyAdmin's address, ADMIN_PASSWORD that of the
// database's root.
'use strict';
const { chromium } = require('playwright-core');

const { SITE, WORDPRESS_USER, WORDPRESS_PASSWORD, SESSION, CHROMIUM, ADMIN, ADMIN_PASSWORD } = process.env;
const [command, argument] = process.argv.slice(2);

const PATIENCE = 120000;

// A page that says that it cannot be served now is tried again, as a person would.
async function open(page, path) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await page.goto(SITE + path);
    if (answer.status() < 500) return;
    if (Date.now() > end) throw new Error(`${path}: status ${answer.status()}`);
    await page.waitForTimeout(1000);
  }
}

async function install(page) {
  await open(page, '/');
  await page.fill('#weblog_title', 'A blog on three MySQL servers');
  await page.fill('#user_login', WORDPRESS_USER);
  await page.fill('#pass1', WORDPRESS_PASSWORD);
  await page.fill('#admin_email', 'editor@example.com');
  await page.click('#submit');
  await page.getByRole('heading', { name: 'Success!' }).waitFor();
}

async function login(page) {
  await open(page, '/wp-login.php');
  await page.fill('#user_login', WORDPRESS_USER);
  await page.fill('#user_pass', WORDPRESS_PASSWORD);
  await page.click('#wp-submit');
  await page.locator('#wpadminbar').waitFor();
}

async function publish(page, title) {
  await open(page, '/wp-admin/post-new.php');
  const heading = page.locator('.editor-post-title__input');
  await heading.waitFor();
  // The guide that the editor opens the first time.
  await page.evaluate(() => {
    const { dispatch, select } = window.wp.data;
    if (select('core/edit-post').isFeatureActive('welcomeGuide')) dispatch('core/edit-post').toggleFeature('welcomeGuide');
  });
  await heading.fill(title);
  await heading.press('Enter');
  await page.keyboard.type(`Published from a browser at ${new Date().toISOString().slice(11, 19)} UTC.`);
  await page.locator('.editor-post-publish-panel__toggle').click();
  // Where publishing fails the editor says so and keeps the text: then a person clicks again.
  const done = page.getByText('is now live');
  const failed = page.getByText('Publishing failed');
  const end = Date.now() + PATIENCE;
  for (let click = 1; ; click++) {
    await page.locator('.editor-post-publish-button').click();
    await done.or(failed).first().waitFor();
    if (await done.isVisible()) {
      const id = await page.evaluate(() => window.wp.data.select('core/editor').getCurrentPostId());
      console.log(`${id} ${click}`);
      return;
    }
    if (Date.now() > end) throw new Error(`publishing failed ${click} times`);
    await page.locator('.components-notice__dismiss').first().click();
    await page.waitForTimeout(1000);
  }
}

async function picture(page, file) {
  await open(page, '/');
  await page.screenshot({ path: file });
}

async function table(page, file) {
  await page.goto(ADMIN);
  await page.fill('#input_username', 'root');
  await page.fill('#input_password', ADMIN_PASSWORD);
  await page.click('#input_go');
  await page.locator('#pma_navigation_tree').waitFor();
  const query = "SELECT ID, post_title, @@hostname AS server FROM wp_posts WHERE post_status = 'publish' AND post_type = 'post' ORDER BY ID DESC";
  await page.goto(`${ADMIN}/index.php?route=/table/sql&db=wordpress&table=wp_posts`);
  // The box for SQL is an editor of its own, which knows nothing of what is filled in.
  await page.locator('#queryfieldscontainer .CodeMirror').waitFor();
  await page.evaluate((text) => window.codeMirrorEditor.setValue(text), query);
  await page.click('#button_submit_query');
  const titles = page.locator('table.table_results tbody tr td.data:nth-last-child(2)');
  await titles.first().waitFor();
  console.log((await titles.allInnerTexts()).join('\n'));
  await page.screenshot({ path: file });
}

const commands = { install, login, publish, picture, table };

async function main() {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  try {
    const context = await browser.newContext({
      viewport: { width: 1000, height: 700 },
      storageState: command === 'publish' ? SESSION : undefined,
    });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    try {
      await commands[command](page, argument);
      if (command === 'login') await context.storageState({ path: SESSION });
    } catch (error) {
      await page.screenshot({ path: `${SESSION}-${command}-failed.png` });
      throw error;
    }
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
