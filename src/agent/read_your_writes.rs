//! `multimaster.wait_for_executed_gtid_set`: with this procedure a client waits at one member for its writes at another. `docs/consistency.md` says
//! when a client needs it.

/// Lines of an init file that make the procedure anew, because an earlier version of the agent may have made another one. `delimiter` keeps the
/// semicolons inside it from ending the statement. Grants on the schema stay. The definer must exist before.
///
/// Why a procedure: MySQL's function of the same name returns 1 after its timeout, which clients easily overlook, and with a timeout of 0 it waits
/// for ever.
pub const CREATE: [&str; 4] = [
    "DROP PROCEDURE IF EXISTS multimaster.wait_for_executed_gtid_set;",
    "delimiter $$",
    "CREATE DEFINER='root'@'localhost' PROCEDURE multimaster.wait_for_executed_gtid_set(IN gtid_set LONGTEXT, IN timeout_seconds DECIMAL(12, 3)) \
     COMMENT 'Returns once this member has executed gtid_set; SQLSTATE HYT00 if it has not within timeout_seconds' \
     READS SQL DATA SQL SECURITY INVOKER BEGIN \
     DECLARE late VARCHAR(128) DEFAULT CONCAT(@@hostname, ' has not executed gtid_set yet: call again, or read where it was written'); \
     IF gtid_set IS NULL THEN \
     SIGNAL SQLSTATE '22004' SET MESSAGE_TEXT = 'gtid_set is NULL: SELECT @@GLOBAL.gtid_executed where it was written'; END IF; \
     IF timeout_seconds IS NULL OR timeout_seconds <= 0 THEN \
     SIGNAL SQLSTATE '22023' SET MESSAGE_TEXT = 'timeout_seconds must be above 0: MySQL itself would wait for ever'; END IF; \
     IF WAIT_FOR_EXECUTED_GTID_SET(gtid_set, timeout_seconds) THEN \
     SIGNAL SQLSTATE 'HYT00' SET MESSAGE_TEXT = late; END IF; END$$",
    "delimiter ;",
];
