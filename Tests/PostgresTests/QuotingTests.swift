import Foundation
import Postgres
import Processes
import Reporting
import SQL
import TestSupport
import Testing

/// What is quoted is read back by PostgreSQL, psql and pg_dump as what it was. `REEVE_QUOTING_NAMES` says how many
/// names are made up (2,000).
@Suite(.database, .timeLimit(.minutes(10)))
struct QuotingTests {
    private static let count =
        ProcessInfo.processInfo.environment["REEVE_QUOTING_NAMES"].flatMap { Int($0) } ?? 2_000

    private func texts(_ seed: UInt64) -> [String] {
        var generator = SeededGenerator(seed)
        return HostileNames.known + (0..<Self.count).map { _ in HostileNames.text(&generator) }
    }

    @Test func `what people read is on one line, and nothing in it hides`() {
        #expect(visible("a\nb\r\nc\rd\te") == "a⏎b⏎c\\u{d}d\\u{9}e")
        #expect(
            visible("\u{1b}[2J\u{9b}\u{202e}\u{2028}\u{200d}\u{7f}")
                == "\\u{1b}[2J\\u{9b}\\u{202e}\\u{2028}\\u{200d}\\u{7f}")
        #expect(visible("a\n\tb\u{1b}\r\n", keepsLines: true) == "a\n\tb\\u{1b}\\u{d}\n")
        #expect(visible("é e\u{301} 𝔘 \"'\\") == "é e\u{301} 𝔘 \"'\\")
        for text in texts(3) {
            #expect(!visible(text).unicodeScalars.contains { $0.properties.generalCategory == .control })
        }
    }

    @Test(arguments: [true, false])
    func `the server reads what is quoted as what it was, and quotes it like us`(conforming: Bool) async throws {
        let texts = texts(1)
        try await TestDatabase.current.with { connection in
            try connection.execute("SET standard_conforming_strings = \(conforming)")
            try connection.execute("SET escape_string_warning = off")
            for start in stride(from: 0, to: texts.count, by: 500) {
                let some = Array(texts[start..<min(start + 500, texts.count)])
                let values = some.map { "(\(quoteLiteral($0)))" }.joined(separator: ", ")
                let rows = try connection.query(
                    "SELECT v, quote_literal(v), '\"' || replace(v, '\"', '\"\"') || '\"' FROM (VALUES \(values)) t (v)"
                )
                for (row, text) in zip(rows, some) {
                    #expect(try row.get(0, as: String.self).utf8.elementsEqual(text.utf8))
                    #expect(try row.get(1, as: String.self).utf8.elementsEqual(quoteLiteral(text).utf8))
                    #expect(try row.get(2, as: String.self).utf8.elementsEqual(quoteIdentifier(text).utf8))
                }
                // As names: the server cuts them at 63 bytes, and tells them back.
                let list = some.enumerated().map { "\($0) AS \(quoteIdentifier($1))" }.joined(separator: ", ")
                let columns = try connection.query("SELECT \(list)").columns
                for (name, text) in zip(columns, some) {
                    #expect(name.utf8.elementsEqual(text.clipped(toBytes: 63).utf8), "\(text)")
                }
                // Through an array, both ways.
                let back: [String] = try connection.query("SELECT $1::text[]", [some]).first?.get(0) ?? []
                #expect(zip(back, some).allSatisfy { $0.utf8.elementsEqual($1.utf8) } && back.count == some.count)
                let dollars = some.map { "(\(quoteDollar($0)))" }.joined(separator: ", ")
                for (row, text) in zip(try connection.query("SELECT v FROM (VALUES \(dollars)) t (v)"), some) {
                    #expect(try row.get(0, as: String.self).utf8.elementsEqual(text.utf8))
                }
            }
        }
    }

    @Test func `psql reads what is quoted as what it was`() async throws {
        let texts = texts(2)
        let script = texts.map {
            "SELECT pg_catalog.encode(pg_catalog.convert_to(\(quoteLiteral($0)), 'UTF8'), 'hex') AS \(quoteIdentifier($0));"
        }.joined(separator: "\n")
        let path = "/tmp/reeve-quoting-\(UUID().uuidString.prefix(8)).sql"
        try script.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let outcome = try await Command(
            "psql",
            ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", path, try TestDatabase.current.settings.uri]
        ).run(limit: .seconds(500), outputLimit: 1 << 28)
        #expect(outcome.succeeded, "\(outcome.errorOutput)")
        let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        #expect(lines.count == texts.count)
        #expect(zip(lines, texts).allSatisfy { $0 == Bytes(Array($1.utf8)).hex })
    }

    @Test func `a pattern of pg_dump matches its table and no other`() async throws {
        var generator = SeededGenerator(3)
        let names = Set(HostileNames.known + (0..<60).map { _ in HostileNames.name(&generator) }.map { "\($0)" }).map {
            Array($0.utf8)
        }
        let tables = Set(names).map { String(decoding: $0, as: UTF8.self) }
        let database = try TestDatabase.current
        try await database.with { connection in
            for schema in ["s", "s*", "\"\u{301}"] {
                try connection.execute("CREATE SCHEMA \(quoteIdentifier(schema))")
                for table in tables {
                    try connection.execute("CREATE TABLE \(quoteIdentifier(schema)).\(quoteIdentifier(table)) ()")
                }
            }
        }
        let programs = await ServerPrograms.installed()
        let dump = try #require(programs.first).path("pg_dump")
        func dumped(_ pattern: String) async throws -> Int {
            let outcome = try await Command(
                dump, ["-s", "--strict-names", "--table=\(pattern)", "--dbname", database.settings.uri]
            ).run(outputLimit: 1 << 26)
            #expect(outcome.succeeded, "\(pattern): \(outcome.errorOutput)")
            return outcome.output.components(separatedBy: "\nCREATE TABLE ").count - 1
        }
        for table in tables.prefix(25) {
            #expect(try await dumped(quotePattern(schema: "s*", names: [table])) == 1)
        }
        #expect(try await dumped(quotePattern(schema: "\"\u{301}", names: tables)) == tables.count)
    }

    @Test func `what was quoted is unquoted to what it was`() {
        var generator = SeededGenerator(4)
        for _ in 0..<5_000 {
            let text = HostileNames.text(&generator)
            #expect(unquoteIdentifier(quoteIdentifier(text)).map { Array($0.utf8) } == Array(text.utf8))
            let literal = quoteLiteral(text)
            if !literal.hasPrefix("E") { #expect(unquoteLiteral(literal).map { Array($0.utf8) } == Array(text.utf8)) }
            let cut = text.clipped(toBytes: 7)
            #expect(cut.utf8.count <= 7 && text.utf8.starts(with: cut.utf8))
            #expect(text.substituting("$1", with: "").utf8.count <= text.utf8.count)
        }
        #expect(unquoteIdentifier("\"a") == nil && unquoteIdentifier("a\"b") == nil && unquoteIdentifier("a") == "a")
        // A quote that is not doubled ends what is quoted: what follows is no part of it.
        #expect(unquoteIdentifier("\"a\"b\"") == nil && unquoteLiteral("'a'b'") == nil)
        #expect("a%x\u{301}b".substituting("%x", with: "c") == "ac\u{301}b")
    }

    @Test func `a statement with a NUL is refused, and so is a parameter`() async throws {
        try await TestDatabase.current.with { connection in
            #expect(throws: PostgresError.self) { try connection.query("SELECT \(quoteLiteral("a\u{0}b"))") }
            #expect(throws: PostgresError.self) { try connection.query("SELECT $1::text", ["a\u{0}b"]) }
        }
    }

    @Test func `settings of a cluster arrive as they are`() async throws {
        let folder = "\(TestCluster.stateFolder)-quoting"
        var options = EmbeddedCluster.Options(stateFolder: folder)
        let values = ["a'b", "a\\b", "a\nb", "'\u{301}", "\\\u{301}n", "#x", "''", "\\'", "a\tb"]
        for (number, value) in values.enumerated() { options.settings["reeve.v\(number)"] = value }
        options.settings["fsync"] = "off"
        let cluster = try await EmbeddedCluster.acquire(options)
        let found = try await Connection.opened(cluster.settings()) { connection in
            try await connection.with { connection in
                try values.indices.map {
                    try connection.query("SELECT current_setting('reeve.v\($0)')").first?.get(0, as: String.self) ?? ""
                }
            }
        }
        await cluster.destroy()
        try? FileManager.default.removeItem(atPath: folder)
        #expect(zip(found, values).allSatisfy { $0.utf8.elementsEqual($1.utf8) }, "\(found)")
    }
}
