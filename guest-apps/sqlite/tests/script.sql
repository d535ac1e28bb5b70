-- Runs in a guest and on the host; what it says is in script.out. Nothing here may depend on time or chance.
.mode list
.headers on
CREATE TABLE region (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE customer (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    region_id INTEGER REFERENCES region (id),
    credit REAL DEFAULT 100.5 CHECK (credit >= 0)
);
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, price NUMERIC, tags TEXT);
CREATE TABLE sale (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    customer_id INTEGER NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    product_id INTEGER NOT NULL REFERENCES product (id),
    quantity INTEGER NOT NULL DEFAULT 1,
    day INTEGER NOT NULL
);
CREATE INDEX sale_customer ON sale (customer_id);
CREATE INDEX sale_day ON sale (day, product_id);
INSERT INTO region (name) VALUES ('north'), ('south'), ('east'), ('west');
INSERT INTO customer (name, region_id, credit) VALUES ('Ada', 2, 12.25);
INSERT INTO customer (name, region_id, credit) VALUES ('Bela', 3, 29.50);
INSERT INTO customer (name, region_id, credit) VALUES ('Cora', 4, 46.75);
INSERT INTO customer (name, region_id, credit) VALUES ('Dirk', 1, 64.00);
INSERT INTO customer (name, region_id, credit) VALUES ('Edda', 2, 81.25);
INSERT INTO customer (name, region_id, credit) VALUES ('Finn', 3, 98.50);
INSERT INTO customer (name, region_id, credit) VALUES ('Gerd', NULL, 115.75);
INSERT INTO customer (name, region_id, credit) VALUES ('Hugo', 1, 133.00);
INSERT INTO customer (name, region_id, credit) VALUES ('Ines', 2, 150.25);
INSERT INTO customer (name, region_id, credit) VALUES ('Jana', 3, 167.50);
INSERT INTO customer (name, region_id, credit) VALUES ('Karl', 4, 184.75);
INSERT INTO customer (name, region_id, credit) VALUES ('Lena', 1, 202.00);
INSERT INTO customer (name, region_id, credit) VALUES ('Mats', 2, 219.25);
INSERT INTO customer (name, region_id, credit) VALUES ('Nora', NULL, 236.50);
INSERT INTO customer (name, region_id, credit) VALUES ('Olaf', 4, 253.75);
INSERT INTO customer (name, region_id, credit) VALUES ('Pia', 1, 271.00);
INSERT INTO customer (name, region_id, credit) VALUES ('Quin', 2, 288.25);
INSERT INTO customer (name, region_id, credit) VALUES ('Rosa', 3, 305.50);
INSERT INTO customer (name, region_id, credit) VALUES ('Sven', 4, 322.75);
INSERT INTO customer (name, region_id, credit) VALUES ('Tess', 1, 340.00);
INSERT INTO product (name, price, tags) VALUES ('nut', 0.05, '["small", "metal"]');
INSERT INTO product (name, price, tags) VALUES ('bolt', 0.15, '["small", "metal"]');
INSERT INTO product (name, price, tags) VALUES ('gear', 4.75, '["metal"]');
INSERT INTO product (name, price, tags) VALUES ('belt', 12.5, '["rubber"]');
INSERT INTO product (name, price, tags) VALUES ('lamp', 39.99, '["glass", "electric"]');
INSERT INTO product (name, price, tags) VALUES ('motor', 249, '["electric", "heavy"]');
INSERT INTO product (name, price, tags) VALUES ('crate', 18, '["wood", "heavy"]');
INSERT INTO product (name, price, tags) VALUES ('label', 0.01, '[]');
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (8, 6, 2, 4);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (15, 3, 5, 7);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (2, 8, 1, 10);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (9, 5, 8, 13);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (16, 2, 8, 16);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (3, 7, 1, 19);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (10, 4, 5, 22);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (17, 1, 2, 25);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (4, 6, 1, 28);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (11, 3, 2, 31);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (18, 8, 5, 3);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (5, 5, 1, 6);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (12, 2, 8, 9);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (19, 7, 8, 12);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (6, 4, 1, 15);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (13, 1, 5, 18);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (20, 6, 2, 21);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (7, 3, 1, 24);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (14, 8, 2, 27);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (1, 5, 5, 30);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (8, 2, 1, 2);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (15, 7, 8, 5);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (2, 4, 8, 8);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (9, 1, 1, 11);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (16, 6, 5, 14);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (3, 3, 2, 17);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (10, 8, 1, 20);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (17, 5, 2, 23);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (4, 2, 5, 26);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (11, 7, 1, 29);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (18, 4, 8, 1);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (5, 1, 8, 4);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (12, 6, 1, 7);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (19, 3, 5, 10);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (6, 8, 2, 13);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (13, 5, 1, 16);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (20, 2, 2, 19);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (7, 7, 5, 22);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (14, 4, 1, 25);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (1, 1, 8, 28);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (8, 6, 8, 31);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (15, 3, 1, 3);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (2, 8, 5, 6);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (9, 5, 2, 9);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (16, 2, 1, 12);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (3, 7, 2, 15);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (10, 4, 5, 18);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (17, 1, 1, 21);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (4, 6, 8, 24);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (11, 3, 8, 27);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (18, 8, 1, 30);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (5, 5, 5, 2);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (12, 2, 2, 5);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (19, 7, 1, 8);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (6, 4, 2, 11);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (13, 1, 5, 14);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (20, 6, 1, 17);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (7, 3, 8, 20);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (14, 8, 8, 23);
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (1, 5, 1, 26);
SELECT count(*) FROM region;
SELECT count(*) FROM customer;
SELECT count(*) FROM product;
SELECT count(*) FROM sale;
SELECT * FROM customer ORDER BY id;
SELECT c.name, r.name AS region FROM customer AS c JOIN region AS r ON r.id = c.region_id ORDER BY c.name;
SELECT c.name, r.name AS region FROM customer AS c LEFT JOIN region AS r ON r.id = c.region_id WHERE r.id IS NULL ORDER BY 1;
SELECT r.name, count(c.id), round(avg(c.credit), 3) FROM region AS r LEFT JOIN customer AS c ON c.region_id = r.id GROUP BY r.id ORDER BY r.name;
SELECT r.name, c.name FROM customer AS c RIGHT JOIN region AS r ON r.id = c.region_id AND c.credit > 300 ORDER BY 1, 2;
SELECT a.name, b.name FROM customer AS a CROSS JOIN customer AS b WHERE a.id + b.id = 21 ORDER BY a.id LIMIT 5;
SELECT count(*) FROM region FULL OUTER JOIN product ON region.id = product.id;
SELECT sum(quantity) FROM sale;
SELECT customer_id, sum(quantity) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT avg(quantity) FROM sale;
SELECT customer_id, avg(quantity) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT min(day) FROM sale;
SELECT customer_id, min(day) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT max(day) FROM sale;
SELECT customer_id, max(day) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT total(quantity) FROM sale;
SELECT customer_id, total(quantity) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT count(DISTINCT product_id) FROM sale;
SELECT customer_id, count(DISTINCT product_id) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT group_concat(DISTINCT quantity ORDER BY quantity) FROM sale;
SELECT customer_id, group_concat(DISTINCT quantity ORDER BY quantity) FROM sale GROUP BY customer_id HAVING count(*) > 2 ORDER BY customer_id;
SELECT p.name, sum(s.quantity * p.price) AS turnover FROM sale AS s JOIN product AS p ON p.id = s.product_id GROUP BY p.id ORDER BY turnover DESC, p.name;
SELECT day / 7 AS week, sum(quantity) FILTER (WHERE product_id < 4) AS small, sum(quantity) FROM sale GROUP BY 1 ORDER BY 1;
SELECT id, row_number() OVER (ORDER BY day, id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, rank() OVER (ORDER BY quantity) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, dense_rank() OVER (ORDER BY quantity) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, percent_rank() OVER (ORDER BY quantity) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, cume_dist() OVER (ORDER BY quantity) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, ntile(4) OVER (ORDER BY id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, lag(quantity, 2, -1) OVER (ORDER BY id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, lead(quantity) OVER (PARTITION BY product_id ORDER BY id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, first_value(day) OVER (PARTITION BY customer_id ORDER BY day, id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, last_value(day) OVER (PARTITION BY customer_id ORDER BY day, id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, nth_value(id, 3) OVER (ORDER BY id) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, sum(quantity) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, avg(quantity) OVER (ORDER BY day RANGE BETWEEN 3 PRECEDING AND 3 FOLLOWING) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, count(*) OVER (ORDER BY quantity GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, sum(quantity) OVER (ORDER BY id EXCLUDE CURRENT ROW) AS w FROM sale WHERE id <= 20 ORDER BY id;
SELECT id, sum(quantity) OVER win, max(quantity) OVER win FROM sale WHERE id < 12 WINDOW win AS (PARTITION BY product_id ORDER BY id) ORDER BY id;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) SELECT i, i * i FROM n;
WITH RECURSIVE f(a, b) AS (SELECT 0, 1 UNION ALL SELECT b, a + b FROM f LIMIT 60) SELECT max(a) FROM f;
WITH RECURSIVE
    x(v) AS (SELECT -2.0 UNION ALL SELECT v + 0.05 FROM x WHERE v < 1.2),
    y(v) AS (SELECT -1.0 UNION ALL SELECT v + 0.1 FROM y WHERE v < 1.0),
    m(i, cx, cy, x, y) AS (
        SELECT 0, x.v, y.v, 0.0, 0.0 FROM x, y
        UNION ALL
        SELECT i + 1, cx, cy, x * x - y * y + cx, 2.0 * x * y + cy FROM m WHERE x * x + y * y < 4.0 AND i < 28
    ),
    d(i, cx, cy) AS (SELECT max(i), cx, cy FROM m GROUP BY cx, cy),
    a(t) AS (SELECT group_concat(substr(' .+*#', 1 + min(i / 7, 4), 1), '') FROM d GROUP BY cy)
SELECT group_concat(rtrim(t), char(10)) AS mandelbrot FROM a;
WITH big AS MATERIALIZED (SELECT * FROM customer WHERE credit > 200) SELECT name FROM big WHERE id % 2 = 0 ORDER BY name;
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT x, y FROM a, b;
SELECT quantity FROM sale WHERE day < 8 UNION SELECT quantity FROM sale WHERE day > 20 ORDER BY 1;
SELECT quantity FROM sale WHERE day < 8 UNION ALL SELECT quantity FROM sale WHERE day > 20 ORDER BY 1;
SELECT quantity FROM sale WHERE day < 8 INTERSECT SELECT quantity FROM sale WHERE day > 20 ORDER BY 1;
SELECT quantity FROM sale WHERE day < 8 EXCEPT SELECT quantity FROM sale WHERE day > 20 ORDER BY 1;
SELECT name, (SELECT count(*) FROM sale WHERE customer_id = c.id) AS n FROM customer AS c ORDER BY n DESC, name LIMIT 6;
SELECT name FROM product WHERE EXISTS (SELECT 1 FROM sale WHERE product_id = product.id AND quantity = 9) ORDER BY name;
SELECT name FROM product WHERE id NOT IN (SELECT product_id FROM sale WHERE day = 4) ORDER BY name;
SELECT name, CASE WHEN price < 1 THEN 'cheap' WHEN price < 50 THEN 'fair' ELSE 'dear' END AS class FROM product ORDER BY id;
SELECT (1, 'b') < (1, 'c'), (2, 'a') IN (VALUES (1, 'a'), (2, 'a'));
VALUES (1, 'one'), (2, 'two'), (3, NULL);
SELECT json('{"a" : [1, 2.5, null, true]}') AS j;
SELECT json_extract('{"a":{"b":[10,20,30]}}', '$.a.b[1]') AS j;
SELECT '{"a":5}' -> '$.a' AS j;
SELECT '{"a":"x"}' ->> 'a' AS j;
SELECT json_array(1, 'two', NULL, 3.0, json('[4]')) AS j;
SELECT json_object('k', 1, 'l', json_array()) AS j;
SELECT json_array_length('[1,2,3,4]') AS j;
SELECT json_type('{"a":[1.5]}', '$.a[0]') AS j;
SELECT json_valid('{"a":1') AS j;
SELECT json_set('{"a":1}', '$.b', 2) AS j;
SELECT json_insert('{"a":1}', '$.a', 2, '$.c', 3) AS j;
SELECT json_replace('{"a":1}', '$.a', json('{"z":0}')) AS j;
SELECT json_remove('{"a":1,"b":2}', '$.a') AS j;
SELECT json_patch('{"a":1,"b":2}', '{"b":null,"c":3}') AS j;
SELECT json_quote('he said "hi"') AS j;
SELECT json_pretty('{"a":[1,2]}') AS j;
SELECT json('{a:1, ''b'':+2, /* five */ c:0x10,}') AS j;
SELECT hex(jsonb('[1,2]')) AS j;
SELECT json(jsonb('{"x":[true,false]}')) AS j;
SELECT p.name, t.value FROM product AS p, json_each(p.tags) AS t ORDER BY p.id, t.key;
SELECT key, value, type, fullkey FROM json_tree('{"a":[1,{"b":2}],"c":"d"}');
SELECT json_group_array(name) FROM (SELECT name FROM product ORDER BY id);
SELECT json_group_object(name, price) FROM (SELECT name, price FROM product ORDER BY id);
SELECT 0.1 + 0.2;
SELECT 1.0 / 3;
SELECT 2.0 / 3 * 3;
SELECT 1e308 * 10;
SELECT -1e308 * 10;
SELECT 1e-320;
SELECT 9007199254740993;
SELECT 9007199254740993.0;
SELECT 9223372036854775807 + 1;
SELECT -9223372036854775808;
SELECT 0.1 + 0.2 = 0.3;
SELECT 123456789.123456789;
SELECT 1e15;
SELECT 1e16;
SELECT 1.5e-7;
SELECT 5e-324;
SELECT 1.7976931348623157e308;
SELECT round(2.5);
SELECT round(-2.5);
SELECT round(2.675, 2);
SELECT round(1234.5678, -2);
SELECT abs(-0.0);
SELECT cast('12.5e1xyz' AS REAL);
SELECT cast(1e20 AS INTEGER);
SELECT cast('0x10' AS INTEGER);
SELECT 7 / 2;
SELECT -7 / 2;
SELECT -7 % 3;
SELECT 7.5 % 2;
SELECT 1 << 62;
SELECT ~5;
SELECT 0x7fffffffffffffff;
SELECT 3 | 4 & 6;
SELECT typeof(1/2.0);
SELECT printf('%.17g', 0.1);
SELECT printf('%.3e', 12345.678);
SELECT printf('%08.3f|%-8d|%+d|%x', 3.14159, 42, 7, 255);
SELECT printf('%!.20g', 1e23);
SELECT format('%,d', 123456789);
SELECT max(1, 2.5, '3');
SELECT min(1, 2.5, '3');
SELECT 0.0 / 0;
SELECT 1 / 0;
SELECT sum(x) FROM (SELECT 1e100 AS x UNION ALL SELECT 1.0 UNION ALL SELECT -1e100);
WITH v(x) AS (VALUES (0.1), (0.2), (0.3)) SELECT avg(x) FROM v;
SELECT upper('abcé');
SELECT length('héllo');
SELECT octet_length('héllo');
SELECT substr('hello', -3, 2);
SELECT instr('hello', 'l');
SELECT replace('a-b-c', '-', '+');
SELECT trim('  x ');
SELECT ltrim('xxabc', 'x');
SELECT hex('abc');
SELECT unhex('616263');
SELECT quote('it''s');
SELECT quote(x'00ff');
SELECT unicode('é');
SELECT char(72, 105);
SELECT 'a' || NULL;
SELECT coalesce(NULL, NULL, 3);
SELECT ifnull(NULL, 'x');
SELECT nullif(1, 1);
SELECT iif(1 > 2, 'yes', 'no');
SELECT typeof(x'00');
SELECT 'abc' LIKE 'A%';
SELECT 'abc' GLOB 'A*';
SELECT 'a_c' LIKE 'a\_c' ESCAPE '\';
SELECT 'abc' BETWEEN 'abb' AND 'abd';
SELECT zeroblob(3) = x'000000';
SELECT concat('a', NULL, 1);
SELECT concat_ws('-', 'a', 'b', NULL, 'c');
SELECT string_agg(name, '/') FROM (SELECT name FROM region ORDER BY id);
SELECT soundex('Robert');
SELECT like('a%', 'abc');
SELECT glob('a?c', 'abc');
SELECT 1 IS NOT DISTINCT FROM NULL;
SELECT NULL IS NULL;
SELECT 'B' < 'a' COLLATE NOCASE;
SELECT '1' = 1;
SELECT 1 = 1.0;
SELECT date('2024-02-28', '+1 day');
SELECT datetime(0, 'unixepoch');
SELECT strftime('%Y-%j %H:%M', '2023-12-31 23:59:01');
SELECT julianday('2000-01-01 12:00:00');
SELECT unixepoch('2038-01-19 03:14:08');
SELECT date('2024-01-31', 'start of month', '+1 month', '-1 day');
SELECT timediff('2024-03-01', '2023-02-27');
SELECT time('12:00', '-90 minutes');
CREATE TABLE log (n INTEGER PRIMARY KEY, what TEXT);
CREATE TRIGGER customer_credit AFTER UPDATE OF credit ON customer WHEN new.credit <> old.credit
BEGIN
    INSERT INTO log (what) VALUES (printf('%s: %.2f -> %.2f', new.name, old.credit, new.credit));
    UPDATE region SET name = upper(name) WHERE id = new.region_id AND new.credit > 1000;
END;
CREATE TRIGGER sale_check BEFORE INSERT ON sale WHEN new.quantity > 99
BEGIN
    SELECT raise(ABORT, 'too many at once');
END;
CREATE VIEW dear AS SELECT id, name, price FROM product WHERE price > 10;
CREATE TRIGGER dear_insert INSTEAD OF INSERT ON dear
BEGIN
    INSERT INTO product (name, price, tags) VALUES (new.name, max(new.price, 11), '[]');
END;
UPDATE customer SET credit = credit * 2 WHERE id IN (1, 2, 3);
UPDATE customer SET credit = 1500 WHERE name = 'Hugo';
UPDATE customer SET credit = credit;
SELECT * FROM log;
SELECT name FROM region ORDER BY id;
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (1, 1, 100, 1);
INSERT INTO dear (name, price) VALUES ('chip', 3), ('engine', 900);
SELECT * FROM dear ORDER BY id;
DROP TRIGGER sale_check;
INSERT INTO sale (customer_id, product_id, quantity, day) VALUES (1, 1, 100, 1);
SELECT last_insert_rowid(), changes();
DELETE FROM sale WHERE quantity = 100;
BEGIN;
DELETE FROM sale;
SELECT count(*) FROM sale;
ROLLBACK;
SELECT count(*) FROM sale;
BEGIN IMMEDIATE;
INSERT INTO log (what) VALUES ('outer');
SAVEPOINT one;
INSERT INTO log (what) VALUES ('inner');
SAVEPOINT two;
DELETE FROM log;
SELECT count(*) FROM log;
ROLLBACK TO two;
SELECT count(*) FROM log;
RELEASE one;
COMMIT;
SELECT what FROM log ORDER BY n;
COMMIT;
BEGIN;
BEGIN;
INSERT INTO region (name) VALUES ('centre');
INSERT INTO region (name) VALUES ('south');
INSERT OR IGNORE INTO region (name) VALUES ('south');
INSERT OR REPLACE INTO region (id, name) VALUES (5, 'middle');
SELECT * FROM region ORDER BY id;
END;
INSERT INTO region (name) VALUES ('x'), ('x');
INSERT OR FAIL INTO region (name) VALUES ('y'), ('middle');
SELECT * FROM region ORDER BY id;
INSERT INTO customer (name, region_id) VALUES ('Ghost', 99);
INSERT INTO customer (name, credit) VALUES ('Debtor', -1);
INSERT INTO customer (credit) VALUES (5);
DELETE FROM customer WHERE id = 8;
SELECT count(*) FROM sale;
DELETE FROM product WHERE id = 1;
INSERT INTO region (id, name) VALUES (2, 'middle') ON CONFLICT (name) DO UPDATE SET name = excluded.name || '!' RETURNING id, name;
UPDATE region SET name = name || '?' WHERE id > 4 RETURNING *;
DELETE FROM region WHERE name = 'y?' RETURNING id;
INSERT INTO log (what) SELECT name FROM product WHERE price > 100 RETURNING n, what;
ALTER TABLE product ADD COLUMN weight REAL DEFAULT 0.25;
ALTER TABLE product RENAME COLUMN weight TO mass;
UPDATE product SET mass = id / 8.0 FROM region WHERE region.id = product.id;
SELECT id, name, mass FROM product ORDER BY id;
ALTER TABLE product DROP COLUMN mass;
ALTER TABLE log RENAME TO journal;
CREATE TABLE typed (i INT, t TEXT, b BLOB, a ANY) STRICT;
INSERT INTO typed VALUES (1, 'x', x'01', 'any'), ('2', 3, x'', 4.5);
INSERT INTO typed VALUES ('no', 'x', x'01', NULL);
SELECT typeof(i), typeof(t), typeof(b), typeof(a) FROM typed;
CREATE TABLE pair (a, b, c AS (a || ':' || b) STORED, PRIMARY KEY (a, b)) WITHOUT ROWID;
INSERT INTO pair VALUES (2, 'x'), (1, 'z'), (1, 'y');
SELECT * FROM pair;
INSERT INTO pair VALUES (1, 'y');
CREATE INDEX dear_name ON product (lower(name)) WHERE price > 10;
SELECT name FROM product INDEXED BY dear_name WHERE lower(name) = 'lamp' AND price > 10;
EXPLAIN QUERY PLAN SELECT * FROM sale WHERE customer_id = 3;
EXPLAIN QUERY PLAN SELECT * FROM sale AS s JOIN customer AS c ON c.id = s.customer_id WHERE s.day = 4 ORDER BY c.name;
CREATE TEMP TABLE scratch (x);
INSERT INTO scratch SELECT value FROM json_each('[5,3,9,1]');
SELECT x FROM scratch ORDER BY x DESC;
DROP TABLE scratch;
SELECT * FROM scratch;
ANALYZE;
SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY 1, 2;
REINDEX;
PRAGMA foreign_key_check;
PRAGMA table_info(customer);
PRAGMA index_list(sale);
PRAGMA integrity_check;
VACUUM;
PRAGMA integrity_check;
SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name;
SELEC 1;
SELECT 1 FROM;
SELECT nothing FROM region;
SELECT nofunction(1);
SELECT * FROM region WHERE name = "south";
SELECT abs(-9223372036854775808);
SELECT count(*) FROM region GROUP BY count(*);
INSERT INTO region VALUES (1);
CREATE TABLE region (x);
DROP TABLE nowhere;
SELECT json('{bad');
SELECT 'unfinished
string', 2;
SELECT /* a comment; with a semicolon */ 3 -- and another;
;
SELECT 1; SELECT 2; SELECT oops; SELECT 3;
PRAGMA writable_schema = on;
DELETE FROM sqlite_schema;
ATTACH 'elsewhere.db' AS elsewhere;
PRAGMA journal_mode = delete;
PRAGMA journal_mode = off;
.nothing
.mode
.mode html
CREATE TABLE bulk (id INTEGER PRIMARY KEY, h TEXT, v REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO bulk SELECT i, printf('%016x', i * 2654435761 % 4294967296), i / 7.0 FROM n;
CREATE INDEX bulk_h ON bulk (h);
SELECT count(*), sum(id), round(sum(v), 6), min(h), max(h) FROM bulk;
UPDATE bulk SET v = -v WHERE id % 3 = 0;
DELETE FROM bulk WHERE id % 5 = 0;
SELECT count(*), round(total(v), 6) FROM bulk;
SELECT id, h FROM bulk ORDER BY h LIMIT 10 OFFSET 1000;
SELECT substr(h, 9, 1) AS nibble, count(*) FROM bulk GROUP BY nibble ORDER BY nibble;
SELECT id FROM bulk WHERE h > '00000000ff000000' ORDER BY id;
SELECT a.id FROM bulk AS a JOIN bulk AS b ON b.h = a.h WHERE a.id < 10;
PRAGMA integrity_check;
.mode table
SELECT * FROM product ORDER BY id;
SELECT id, h, v FROM bulk ORDER BY id LIMIT 250;
.mode box
SELECT name, tags FROM product ORDER BY id;
SELECT 'two' || char(10) || 'lines' AS text, 3.5 AS number;
.mode column
SELECT * FROM region ORDER BY id;
.headers off
SELECT * FROM region ORDER BY id;
.mode csv
SELECT *, 'a "quoted", word' FROM region ORDER BY id;
.headers on
SELECT NULL AS n, '' AS e, 'x y' AS s, 5 AS i;
.mode list
.tables
.tables s%
.schema customer
.schema pair
.help
DROP VIEW dear;
DROP TABLE bulk;
DROP TABLE sale;
DROP TABLE customer;
.tables
PRAGMA integrity_check;
SELECT 'the end';
.quit
