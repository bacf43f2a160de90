import Foundation
import Postgres
import Processes
import TestSupport
import Testing

@testable import Backups

/// Databases with rows that cannot be converted to UTF-8. pg_dump converts nothing.
@Suite(.heavy, .timeLimit(.minutes(5)))
struct EncodingTests {
    @Test(.database, arguments: ["SQL_ASCII", "WIN1252"])
    func `rows of any bytes come back`(encoding: String) async throws {
        let database = try TestDatabase.current
        let (name, other) = ("\(database.name)_from", "\(database.name)_to")
        for name in [name, other] {
            try await TestCluster.runSQL(
                "CREATE DATABASE \(name) TEMPLATE template0 ENCODING '\(encoding)' LC_COLLATE 'C' LC_CTYPE 'C'")
        }
        let (source, target) = (database.settings.database(name), database.settings.database(other))
        try await Connection.opened(source) { connection in
            try await connection.with {
                _ = try $0.execute(
                    """
                    CREATE TABLE public.large AS SELECT i, convert_from('\\x81ff', '\(encoding)') || repeat('x', 200) AS t
                        FROM generate_series(1, 3000) i;
                    CREATE TABLE public.small AS SELECT * FROM public.large LIMIT 10
                    """)
            }
        }
        let vault = try await Vault()
        let maker = vault.maker(source) { $0.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000) }
        let manifest = try await maker.make().manifest
        #expect(manifest.parts.contains { $0.slice != nil })
        #expect(try await maker.make().manifest.tables == manifest.tables)
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        var selection = PartialRestore.Selection()
        selection.tables = ["public.large", "public.small"]
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let notes = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: target)
        #expect(notes == [])
        for table in ["large", "small"] {
            func rows(_ settings: ConnectionSettings) async throws -> String {
                try await Connection.opened(settings) {
                    try await $0.value(
                        "SELECT md5(string_agg(i || encode(t::bytea, 'hex'), ',' ORDER BY i)) FROM public.\(table)")
                }
            }
            #expect(try await rows(source) == rows(target))
        }
        for name in [name, other] { try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)") }
    }

    /// COPY would store rows that are declared as SQL_ASCII as they are.
    @Test(.database, arguments: [false, true])
    func `rows without an encoding are restored where they are valid, and refused elsewhere`(isMasked: Bool)
        async throws
    {
        let database = try TestDatabase.current
        let name = "\(database.name)_from"
        try await TestCluster.runSQL(
            "CREATE DATABASE \(name) TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        let source = database.settings.database(name)
        try await Connection.opened(source) { connection in
            try await connection.with {
                _ = try $0.execute(
                    """
                    CREATE TABLE public.valid AS SELECT i, convert_from('\\xc3a4', 'SQL_ASCII') || repeat('x', 200) AS t
                        FROM generate_series(1, 3000) i;
                    CREATE TABLE public.large AS SELECT i, convert_from('\\x81ff', 'SQL_ASCII') || repeat('x', 200) AS t
                        FROM generate_series(1, 3000) i;
                    CREATE TABLE public.small AS SELECT * FROM public.large LIMIT 10
                    """)
            }
        }
        let vault = try await Vault()
        let manifest = try await vault.maker(source) {
            $0.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
        }.make().manifest
        var restoring = vault.restoring
        if isMasked {
            restoring.masking = MaskingRules([
                "public": ["valid": ["i": .null], "large": ["i": .null], "small": ["i": .null]]
            ])
        }
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: restoring)
        func restore(_ table: String) async throws {
            var selection = PartialRestore.Selection()
            selection.tables = ["public.\(table)"]
            _ = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
                .restore(into: database.settings)
        }
        try await restore("valid")
        let text: String = try await database.value("SELECT DISTINCT rtrim(t, 'x') FROM public.valid")
        #expect(text == "ä")
        for table in ["large", "small"] {
            let error = await #expect(throws: PipelineError.self) { try await restore(table) }
            #expect(error?.errorOutput.contains("invalid byte sequence for encoding \"UTF8\"") == true, "\(table)")
            #expect(try await database.value("SELECT to_regclass('public.\(table)') IS NULL"))
        }
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    /// The owner of a database limits the sessions of everybody.
    @Test(.database) func `limits on the time of statements stop no backup and no test`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE t AS SELECT i, repeat('x', 200) AS t FROM generate_series(1, 20000) i",
            "ALTER DATABASE \(database.name) SET statement_timeout = '10s'",
            "ALTER DATABASE \(database.name) SET idle_in_transaction_session_timeout = '1ms'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.plainSettings) {
            $0.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
        }.make().manifest
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        let limits: [String] = try await Database(database.settings).unlimited.withDirectConnection { connection in
            try await connection.with { connection in
                try ["statement_timeout", "idle_in_transaction_session_timeout"].map {
                    try connection.query("SHOW \($0)").first?.get(0) ?? ""
                }
            }
        }
        #expect(limits == ["0", "0"])
    }
}
