<?php
// A shop on several MySQL servers that all take writes. It is safe there, because rows are only added, each under a key
// that no server hands out and that is used once: a delivery adds pieces, an order takes some away, and the stock is
// their sum. Nothing is read, changed and written back, so there is nothing that two servers could change differently.
declare(strict_types=1);

const PRODUCTS = ['apple' => 'Apples', 'pear' => 'Pears', 'plum' => 'Plums'];

// 48 bits of time, so that new rows come last in the table, and 80 bits of chance.
function new_key(): string
{
    return substr(bin2hex(pack('J', (int) (microtime(true) * 1000))), 4) . bin2hex(random_bytes(10));
}

function connect(): PDO
{
    return new PDO('mysql:dbname=shop;charset=utf8mb4;host=' . getenv('DB_HOST'), 'shop', getenv('DB_PASSWORD'), [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_TIMEOUT => 2,
        PDO::ATTR_PERSISTENT => getenv('DB_PERSISTENT') === 'yes',
    ]);
}

// Adds the order, and reads it where it was written.
function order(string $key, string $product, int $pieces): array
{
    $database = connect();
    $sending = new_key();
    $database->prepare('INSERT INTO movements (id, sending, product, pieces) VALUES (?, ?, ?, ?)')
        ->execute([$key, $sending, $product, -$pieces]);
    $row = $database->prepare('SELECT id, product, -pieces AS pieces, @@hostname AS server FROM movements WHERE id = ? AND sending = ?');
    $row->execute([$key, $sending]);
    return $row->fetch(PDO::FETCH_ASSOC);
}

// A server may be lost before it has answered, and nobody knows whether it took the order. So the order is sent again. If
// both were taken they are two rows, and not one row of two servers, which would be a conflict; and still one order.
function order_safely(string $key, string $product, int $pieces): array
{
    try {
        return order($key, $product, $pieces);
    } catch (PDOException $error) {
        error_log("order $key is sent again: {$error->getMessage()}");
        return order($key, $product, $pieces);
    }
}

function stock(): array
{
    return connect()->query('SELECT product, SUM(pieces) FROM (SELECT DISTINCT id, product, pieces FROM movements) AS orders
        GROUP BY product')->fetchAll(PDO::FETCH_KEY_PAIR);
}

// What is sent may be anything: null is no order.
function sent_order(): ?array
{
    $key = $_REQUEST['key'] ?? new_key();
    $product = $_REQUEST['product'] ?? '';
    $pieces = filter_var($_REQUEST['pieces'] ?? 1, FILTER_VALIDATE_INT, ['options' => ['min_range' => 1, 'max_range' => 100]]);
    $good = is_string($key) && preg_match('/^[0-9a-f]{32}$/D', $key) && is_string($product) && isset(PRODUCTS[$product]) && $pieces;
    return $good ? [$key, $product, $pieces] : null;
}

$order = $stock = $message = null;
try {
    if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
        $stock = stock();
    } elseif ($sent = sent_order()) {
        $order = order_safely(...$sent);
    } else {
        http_response_code(400);
        $message = 'This is no order.';
    }
} catch (PDOException $error) {
    error_log((string) $error);
    http_response_code(503);
    $message = 'The shop cannot reach its database. Please try again.';
}
$text = static fn ($value): string => htmlspecialchars((string) $value);
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Shop</title>
<style>body { font: 18px sans-serif; margin: 2em } td { padding: .4em 1em .4em 0 }</style>
<h1>Shop</h1>
<?php if ($message) { ?>
<p><?= $text($message) ?>
<?php } elseif ($order) { ?>
<p>Order <?= $text($order['id']) ?>: <?= $text($order['pieces']) ?> × <?= $text(PRODUCTS[$order['product']]) ?>.
<p>The server <?= $text($order['server']) ?> took it.
<p><a href="?">Back</a>
<?php } else { ?>
<table>
<?php foreach (PRODUCTS as $product => $name) { ?>
<tr><td><?= $text($name) ?><td><?= $text($stock[$product] ?? 0) ?> in stock
<td><form method="post">
<input type="hidden" name="key" value="<?= new_key() ?>"><input type="hidden" name="product" value="<?= $product ?>">
<button>Order one</button></form>
<?php } ?>
</table>
<?php }
