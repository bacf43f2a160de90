import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

@testable import Migrations

/// Reading folders and files; no database.
@Suite struct MigrationFileTests {
    private func script(_ sql: String) throws -> MigrationScript {
        try MigrationScript(path: "0001_x.up.sql", source: Array(sql.utf8))
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

    @Test func `a lock timeout is written as every other duration`() throws {
        for (text, duration) in [("5", Duration.seconds(5)), ("2m", .seconds(120)), ("1 h", .seconds(3600))] {
            #expect(try script("-- reeve: lock-timeout \(text)\nSELECT 1;").directives.lockTimeout == duration)
        }
    }

    @Test(
        arguments: [
            (
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY s.t (a)",
                NonTransactionalStatement.createIndex(name: "I", table: "S.T")
            ),
            ("create index concurrently \"I x\" on t (a)", .createIndex(name: "\"I x\"", table: "T")),
            ("CREATE INDEX CONCURRENTLY ON t (a)", .createIndex(name: "", table: "T")),
            ("DROP INDEX CONCURRENTLY IF EXISTS s.i", .dropIndex(name: "S.I")),
            ("REINDEX (VERBOSE, CONCURRENTLY) INDEX i", .reindex(index: "I")),
            ("REINDEX TABLE CONCURRENTLY t", .reindexTable("T")),
            ("REINDEX DATABASE d", .other),
            ("ALTER TABLE ONLY t DETACH PARTITION p CONCURRENTLY", .detachPartition(parent: "T", partition: "P")),
            ("CREATE DATABASE d", .createDatabase(name: "D")), ("DROP DATABASE IF EXISTS d", .dropDatabase(name: "D")),
            ("VACUUM (ANALYZE) t", .other), ("ALTER SYSTEM SET work_mem = '1MB'", .other),
            ("CREATE TABLESPACE s LOCATION 'x'", .other),
        ] as [(String, NonTransactionalStatement)])
    func `statements that cannot run in a transaction are recognised`(sql: String, expected: NonTransactionalStatement)
        throws
    {
        let script = try script(sql)
        #expect(NonTransactionalStatement(words: try script.words(of: script.statements[0])) == expected)
    }

    @Test(arguments: [
        "CREATE INDEX i ON t (a)", "DROP INDEX i", "ALTER TABLE t DETACH PARTITION p", "ALTER TYPE e ADD VALUE 'x'",
        "REINDEX INDEX i", "CLUSTER t", "CREATE TABLE vacuum (a int)", "COMMENT ON TABLE t IS 'VACUUM'",
        "DISCARD PLANS",
    ])
    func `others are not`(sql: String) throws {
        let script = try script(sql)
        #expect(NonTransactionalStatement(words: try script.words(of: script.statements[0])) == nil)
    }

    @Test func `transaction control in a migration is refused with its place`() throws {
        for sql in ["BEGIN; SELECT 1; COMMIT;", "SELECT 1;\nEND;", "ROLLBACK;", "START TRANSACTION;"] {
            #expect(throws: MigrationError.self) { _ = try MigrationStep.steps(of: script(sql)) }
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

    @Test func `names that are no migration's, duplicates and orphans are refused`() throws {
        func read(_ files: [String]) throws {
            let fixture = try MigrationFixture(
                schema: "app", Dictionary(uniqueKeysWithValues: files.map { ($0, "SELECT 1;") }))
            _ = try MigrationFolder(reading: fixture.folder)
        }
        try read(["0001_a.up.sql", "0001_a.down.sql", "0002_b.up.sql", "R__v.sql", "R__v.down.sql"])
        #expect(throws: MigrationError.self) { try read(["V1__a.sql"]) }
        #expect(throws: MigrationError.self) { try read(["0000_a.up.sql"]) }
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
