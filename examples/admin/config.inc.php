<?php
$cfg['Servers'][1] = [
    'host' => getenv('DB_HOST'),
    'auth_type' => 'cookie',        // a person logs in, nothing is kept here
    'AllowNoPassword' => false,
];
$cfg['TempDir'] = '/tmp';
$cfg['VersionCheck'] = false;
$cfg['SendErrorReports'] = 'never';

// The key for cookies is this pod's own.
if (!file_exists('/tmp/cookie-key')) {
    file_put_contents('/tmp/cookie-key', random_bytes(32));
}
$cfg['blowfish_secret'] = file_get_contents('/tmp/cookie-key');
