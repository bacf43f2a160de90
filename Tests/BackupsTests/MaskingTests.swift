import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

@Suite struct MaskingTests {
    /// Every type gets a mask that its column takes, and equal values get equal masks.
    @Test(.database) func everyTypeIsMasked() async throws {
        let types = [
            "smallint", "integer", "bigint", "numeric", "numeric(6,2)", "real", "double precision", "text",
            "varchar(8)",
            "char(5)", "uuid", "bytea", "json", "jsonb", "date", "timestamp", "timestamptz", "inet", "boolean",
        ]
        let values = [
            "7", "7", "7", "7.5", "7.25", "7.5", "7.5", "'secret'", "'secret'", "'secr'",
            "'00000000-0000-0000-0000-000000000007'", "'\\x07'", "'{\"a\":7}'", "'{\"a\":7}'", "'2026-01-07'",
            "'2026-01-07 07:07'", "'2026-01-07 07:07Z'", "'192.0.2.7'", "true",
        ]
        let columns = types.indices.map { "c\($0) \(types[$0])" }.joined(separator: ", ")
        let database = try TestDatabase.current
        let line = "(\(values.joined(separator: ", ")))"
        try await database.execute(
            "CREATE TABLE t (\(columns))", "INSERT INTO t VALUES \(line), \(line)", "INSERT INTO t DEFAULT VALUES")
        for mask in [MaskingRules.Mask.hash, .fake, .null] {
            let rules = MaskingRules([
                "public": ["t": Dictionary(uniqueKeysWithValues: types.indices.map { ("c\($0)", mask) })]
            ])
            try await database.with { connection in
                try connection.execute("CREATE TABLE before AS SELECT * FROM t")
                try rules.apply(on: connection)
                for index in types.indices where !["boolean", "json"].contains(types[index]) {
                    let same: Int =
                        try connection.query(
                            "SELECT count(*) FROM t, before WHERE t.c\(index)::text = before.c\(index)::text"
                        )
                        .first?.get(0) ?? -1
                    #expect(same == 0, "\(types[index]) \(mask)")
                    let distinct: Int =
                        try connection.query("SELECT count(DISTINCT c\(index)::text) FROM t").first?.get(0) ?? -1
                    #expect(distinct == (mask == .null ? 0 : 1), "\(types[index]) \(mask)")
                }
                try connection.execute("TRUNCATE t; INSERT INTO t SELECT * FROM before; DROP TABLE before")
            }
        }
    }

    /// Otherwise a list of masked addresses could be made beforehand, and two copies joined.
    @Test(.database) func noTwoRestoresMaskAValueAlike() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE t AS SELECT 1 AS id, 'a@example.org'::text AS email, 'x'::text AS code")
        let rules = MaskingRules(["public": ["t": ["email": .fake, "code": .hash]]])
        var masked: [[String]] = []
        for _ in 1...2 {
            masked.append(
                try await database.with { connection in
                    try connection.execute("UPDATE t SET email = 'a@example.org', code = 'x'")
                    try rules.apply(on: connection)
                    return try connection.query("SELECT email, code FROM t").flatMap { [try $0.get(0), try $0.get(1)] }
                })
        }
        #expect(zip(masked[0], masked[1]).allSatisfy { $0 != $1 }, "\(masked)")
    }

    @Test func namesSuggestWhatIsMadeUp() throws {
        let rules = MaskingRules(["s": ["t": ["email": .fake, "phone_number": .fake]]])
        let statements = try rules.statements(["s": ["t": ["email": "text", "phone_number": "text"]]], salt: "x")
        #expect(statements.count == 1 && statements[0].contains("@example.invalid") && statements[0].contains("+1555"))
        #expect(throws: BackupError.self) { try rules.statements(["s": ["t": ["email": "text"]]], salt: "x") }
    }
}
