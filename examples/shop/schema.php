<?php
// The table, and a first delivery of each product. Its keys are fixed, so that it can run again.
declare(strict_types=1);

$database = new PDO('mysql:dbname=shop;charset=utf8mb4;host=' . getenv('DB_HOST'), 'shop', getenv('DB_PASSWORD'));
$database->exec('CREATE TABLE IF NOT EXISTS movements (
    id CHAR(32) CHARACTER SET ascii PRIMARY KEY,
    product VARCHAR(20) CHARACTER SET ascii NOT NULL,
    pieces INT NOT NULL,
    KEY stock (product, pieces))');
$delivery = $database->prepare('INSERT IGNORE INTO movements (id, product, pieces) VALUES (?, ?, 1000)');
foreach (['apple', 'pear', 'plum'] as $product) {
    $delivery->execute([md5("first delivery of $product"), $product]);
}
