<?php
// The table, and a first delivery of each product. It can run again: the delivery is then sent again, as an order may be.
declare(strict_types=1);

$database = new PDO('mysql:dbname=shop;charset=utf8mb4;host=' . getenv('DB_HOST'), 'shop', getenv('DB_PASSWORD'));
$database->exec('CREATE TABLE IF NOT EXISTS movements (
    id CHAR(32) CHARACTER SET ascii,
    sending CHAR(32) CHARACTER SET ascii,
    product VARCHAR(20) CHARACTER SET ascii NOT NULL,
    pieces INT NOT NULL,
    PRIMARY KEY (id, sending))');
$delivery = $database->prepare('INSERT INTO movements (id, sending, product, pieces) VALUES (?, ?, ?, 1000)');
foreach (['apple', 'pear', 'plum'] as $product) {
    $delivery->execute([md5("first delivery of $product"), bin2hex(random_bytes(16)), $product]);
}
