import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

@testable import Migrations

/// Reading folders and files; no database.
@Suite struct MigrationFileTests {
    private func script(_ sql: String) throws -> MigrationScript {
        try MigrationScript(path: "0001_x.up.sql", bytes: Array(sql.utf8))
    }

    @Test(arguments: [
        ("CREATE TABLE t (a int);", "-- why\nCREATE TABLE t (\n  a int\n); -- end", true),
        ("SELECT 1;\nSELECT 2;", "SELECT 1;\r\nSELECT 2;\r\n", true),
        ("SELECT $$a\nb$$;", "SELECT $$a\r\nb$$;", true),
        ("SELECT a.b;", "SELECT a . b;", true),
        ("SELECT 1;", "SELECT 2;", false),
        ("CREATE TABLE t (a varchar(50));", "CREATE TABLE t (a varchar(100));", false),
        ("SELECT a < = b;", "SELECT a <= b;", false),
        ("SELECT 'a b';", "SELECT 'a  b';", false),
        ("SELECT ab;", "SELECT a b;", false),
        ("SELECT 1; SELECT 2;", "SELECT 1 SELECT 2;", false),
        ("SELECT /* a */ 1;", "SELECT /* b\n /* c */ */ 1;", true),
    ])
    func `the token digest is that of the tokens alone`(left: String, right: String, same: Bool) throws {
        #expect(try (script(left).tokenDigest == script(right).tokenDigest) == same)
    }

    @Test func `directives are read from the header and nowhere else`() throws {
        let sql =
            "-- Why\n-- reeve: no-transaction\n-- reeve: lock-timeout 500ms\n--reeve: retries 7\n\nSELECT 1;\n-- reeve: nonsense\n"
        let directives = try script(sql).directives
        #expect(directives.noTransaction)
        #expect(directives.lockTimeout == .milliseconds(500))
        #expect(directives.retries == 7)
        for bad in [
            "-- reeve: no-transactoin", "-- reeve: retries many", "-- reeve: lock-timeout soon", "-- reeve: opt-in A B",
            "-- reeve: lock-timeout 25d",
        ] {
            #expect(throws: MigrationError.self) { try script("-- first\n" + bad + "\nSELECT 1;") }
        }
    }

    @Test func `statements before the marker of the up part belong to it alone`() throws {
        let parts = try ScriptParts(
            Array("-- about both\nSELECT 1;\n-- reeve: up\nSELECT 2;\n-- reeve: down\nSELECT 3;\n".utf8), path: "f")
        let (up, down) = (try MigrationScript(path: "f", bytes: parts.up), try #require(parts.down))
        #expect(up.statements.map(up.text) == ["SELECT 1", "SELECT 2"])
        let reverting = try MigrationScript(path: "f", bytes: down)
        #expect(reverting.statements.map(reverting.text) == ["SELECT 3"])
    }

    @Test func `variables of the environment are not substituted in silence`() throws {
        #expect(throws: MigrationError.self) {
            try ScriptParts(Array("-- +goose Up\n-- +goose ENVSUBST ON\nSELECT '${HOME}';\n".utf8), path: "f")
        }
        #expect(try ScriptParts(Array("-- +goose ENVSUBST OFF\nSELECT 1;\n".utf8), path: "f").down == nil)
    }

    @Test func `a lock timeout is written as every other duration`() throws {
        for (text, duration) in [("5", Duration.seconds(5)), ("2m", .seconds(120)), ("1 h", .seconds(3600))] {
            #expect(try script("-- reeve: lock-timeout \(text)\nSELECT 1;").directives.lockTimeout == duration)
        }
    }

    @Test(
        arguments: [
            (
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY s.t (a)",
                NonTransactionalStatement.createIndex(
                    IndexStatement(
                        name: "i", table: "s.t", isUnique: true, toleratesExisting: true, definitionStart: 60))
            ),
            (
                "create index concurrently \"I x\" on größe (a)",
                .createIndex(
                    IndexStatement(
                        name: "\"I x\"", table: "größe", isUnique: false, toleratesExisting: false,
                        definitionStart: 42))
            ),
            (
                "CREATE INDEX CONCURRENTLY ON t (a)",
                .createIndex(
                    IndexStatement(
                        name: nil, table: "t", isUnique: false, toleratesExisting: false, definitionStart: 30))
            ),
            ("DROP INDEX CONCURRENTLY IF EXISTS s.i", .dropIndex(name: "s.i")),
            ("REINDEX (VERBOSE, CONCURRENTLY) INDEX i", .reindex(.index("i"))),
            ("REINDEX TABLE CONCURRENTLY t", .reindex(.table("t"))),
            ("REINDEX SCHEMA CONCURRENTLY s", .reindex(.schema("s"))),
            ("REINDEX (CONCURRENTLY) DATABASE d", .reindex(.database)),
            ("REINDEX DATABASE d", .other), ("ALTER SUBSCRIPTION s REFRESH PUBLICATION", .other),
            ("ALTER TABLE ONLY t DETACH PARTITION p CONCURRENTLY", .detachPartition(parent: "t", partition: "p")),
            ("ALTER TABLE s.t * DETACH PARTITION p CONCURRENTLY", .detachPartition(parent: "s.t", partition: "p")),
            ("ALTER TABLE ONLY (t) DETACH PARTITION p CONCURRENTLY", .detachPartition(parent: "t", partition: "p")),
            ("CREATE DATABASE d", .createDatabase(name: "d")), ("DROP DATABASE IF EXISTS d", .dropDatabase(name: "d")),
            ("VACUUM (ANALYZE) t", .other), ("ALTER SYSTEM SET work_mem = '1MB'", .other),
            ("CREATE TABLESPACE s LOCATION 'x'", .other),
        ] as [(String, NonTransactionalStatement)])
    func `statements that cannot run in a transaction are recognised`(sql: String, expected: NonTransactionalStatement)
        throws
    {
        let script = try script(sql)
        #expect(
            NonTransactionalStatement(words: try script.words(of: script.statements[0]), isAutocommit: false)
                == expected)
    }

    @Test(arguments: [
        "CREATE INDEX i ON t (a)", "DROP INDEX i", "ALTER TABLE t DETACH PARTITION p", "ALTER TYPE e ADD VALUE 'x'",
        "REINDEX INDEX i", "CLUSTER t", "CREATE TABLE vacuum (a int)", "COMMENT ON TABLE t IS 'VACUUM'",
        "DISCARD PLANS",
    ])
    func `others are not`(sql: String) throws {
        let script = try script(sql)
        #expect(
            NonTransactionalStatement(words: try script.words(of: script.statements[0]), isAutocommit: false) == nil)
    }

    @Test func `transaction control in a migration is refused with its place`() throws {
        let alone = "-- reeve: no-transaction\n"
        for sql in [
            "SELECT 1; BEGIN; SELECT 1; COMMIT;", "BEGIN; SELECT 1; COMMIT; SELECT 1;", "SELECT 1;\nEND;", "ROLLBACK;",
            "START TRANSACTION;", "BEGIN; SELECT 1;", "BEGIN; SELECT 1; ROLLBACK;",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT;",
            "BEGIN; CREATE INDEX CONCURRENTLY i ON t (a); COMMIT;", alone + "BEGIN; SELECT 1;", alone + "COMMIT;",
            alone + "BEGIN; BEGIN; COMMIT;", alone + "BEGIN; VACUUM; COMMIT;",
        ] {
            #expect(throws: MigrationError.self, "\(sql)") { _ = try MigrationStep.steps(of: script(sql)) }
        }
        let allowed = try MigrationStep.steps(of: script("SAVEPOINT a; ROLLBACK TO SAVEPOINT a;"))
        #expect(allowed.count == 1)
    }

    @Test func `a script is cut into transactions around what runs alone`() throws {
        let steps = try MigrationStep.steps(
            of: script(
                "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE INDEX CONCURRENTLY i ON t (a); SELECT 1; SELECT 2;"
            ))
        #expect(steps.map(\.statements.count) == [2, 1, 2])
        #expect(steps.map(\.runsAlone) == [false, true, false])
    }

    @Test func `BEGIN and COMMIT around a whole script are its transaction`() throws {
        for sql in ["BEGIN; SELECT 1; SELECT 2; COMMIT;", "start transaction;\nSELECT 1; SELECT 2;\nEND WORK;"] {
            #expect(try MigrationStep.steps(of: script(sql)).map(\.statements.count) == [2])
        }
        let apart = try MigrationStep.steps(
            of: script("-- reeve: no-transaction\nSELECT 1; BEGIN; SELECT 2; SELECT 3; COMMIT; SELECT 4;"))
        #expect(apart.map(\.statements.count) == [1, 2, 1])
    }

    @Test func `without transactions, what may commit or needs none runs alone`() throws {
        let sql = """
            -- reeve: no-transaction
            SELECT 1; CALL p(); DO $$ BEGIN NULL; END $$; DO $$ BEGIN COMMIT; END $$; REINDEX TABLE t; CLUSTER t;
            """
        let steps = try MigrationStep.steps(of: script(sql))
        #expect(steps.map(\.runsAlone) == [false, true, false, true, true, true])
        let together = try MigrationStep.steps(of: script("CALL p(); DO $$ BEGIN COMMIT; END $$; REINDEX TABLE t;"))
        #expect(together.map(\.runsAlone) == [false])
    }

    @Test func `names that are no migration's, duplicates and orphans are refused`() throws {
        func read(_ files: [String]) throws {
            let fixture = try MigrationFixture(
                schema: "app", Dictionary(uniqueKeysWithValues: files.map { ($0, "SELECT 1;") }))
            _ = try MigrationFolder(reading: fixture.folder)
        }
        try read(["0001_a.up.sql", "0001_a.down.sql", "0002_b.up.sql", "R__v.sql", "R__v.down.sql"])
        #expect(throws: MigrationError.self) { try read(["V1__a.sql"]) }
        try read(["0_a.sql", "20240131120000_b.sql", "999999999999999999_c.up.sql"])
        #expect(throws: MigrationError.self) { try read(["1000000000000000000_a.sql"]) }
        #expect(throws: MigrationError.self) { try read(["0001_a.sql", "0001_a.up.sql"]) }
        #expect(throws: MigrationError.self) { try read(["0001_a.down.sql"]) }
        let error = #expect(throws: MigrationError.self) { try read(["0001_a.up.sql", "01_b.up.sql"]) }
        #expect(error?.description.contains("0001_a.up.sql") == true)
        #expect(error?.description.contains("01_b.up.sql") == true)
    }

    @Test func `systems come after what they require, and circles are refused`() throws {
        func system(_ name: String, _ requires: [String]) -> MigrationSystem {
            MigrationSystem(name: name, schema: name, requires: requires, folder: "/nowhere")
        }
        let ordered = try MigrationSystem.ordered([system("a", ["c"]), system("b", []), system("c", ["b"])])
        #expect(ordered.map(\.name) == ["b", "c", "a"])
        #expect(throws: MigrationError.self) { try MigrationSystem.ordered([system("a", ["b"]), system("b", ["a"])]) }
        #expect(throws: MigrationError.self) { try MigrationSystem.ordered([system("a", ["x"])]) }
    }
}
