<?php
foreach (['DB_HOST', 'DB_NAME', 'DB_USER', 'DB_PASSWORD'] as $name) {
    define($name, getenv($name));
}
define('DB_CHARSET', 'utf8mb4');
// Keys for cookies are made by WordPress itself and kept in the database, where every pod finds the same.

// The code is the image's.
define('DISALLOW_FILE_MODS', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
// The CronJob does it.
define('DISABLE_WP_CRON', true);
