import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

@testable import Catalog

/// What is in a catalog is written by others: no name and no text of it gets out of its place in the SQL that mends,
/// which a superuser runs, and each comes back as it was.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct HostileMendTests {
    /// A database beside the test's own.
    private struct Place {
        let settings: ConnectionSettings
        let schemas: Set<ExactText>
        /// What is made where something gets out.
        let file: String

        func execute(_ statements: [String]) async throws {
            try await Connection.opened(settings) { connection in
                for sql in statements {
                    do {
                        try await connection.with { _ = try $0.execute(sql) }
                    } catch {
                        throw Failure(description: "\(error)\n\(sql)")
                    }
                }
            }
        }

        func read() async throws -> SchemaCatalog {
            var reader = CatalogReader(.schemas(schemas))
            reader.readsDependencies = true
            let catalog = try await Connection.opened(settings) { [reader] connection in
                try await connection.with { try reader.read(on: $0) }
            }
            // Mending goes by what is written down.
            let text = SchemaSnapshot.text(of: catalog)
            let again = try SchemaSnapshot.parse(text, file: "zoo").catalog
            #expect(again.sorted == catalog.sorted)
            #expect(again.sorted.map(\.dependencies) == catalog.sorted.map(\.dependencies))
            #expect(again.schemas == catalog.schemas)
            #expect(SchemaSnapshot.text(of: again) == text)
            return again
        }

        /// The number of statements in the preamble.
        private static let preamble = MendScript.preamble.split(separator: "\n").count

        /// Takes the database to what is expected, by psql or by statements of the script on a connection.
        func mend(to expected: SchemaCatalog, byPsql: Bool, _ what: String) async throws {
            let found = try await read()
            let differences = CatalogDiff().differences(expected: expected, found: found)
            #expect(!differences.isEmpty, "\(what)")
            let mender = Mender(expected: expected, found: found, owner: "postgres")
            let harmless = mender.script(for: differences, lossy: false)
            let run = try SQLLexer.split(Array(harmless.script.utf8))
            // What is withheld is a comment, whatever the names in it.
            #expect(
                run.count == (harmless.isEmpty ? 0 : harmless.statements.count + Self.preamble)
                    + (harmless.isAtomic && !harmless.statements.isEmpty ? 2 : 0),
                "\(what)")
            let script = mender.script(for: differences, lossy: true)
            if byPsql {
                let path = "\(file).sql"
                defer { try? FileManager.default.removeItem(atPath: path) }
                try script.script.write(toFile: path, atomically: true, encoding: .utf8)
                let folder = try #require(await ServerPrograms.installed().first)
                let outcome = try await Command(
                    folder.path("psql"), ["-XqAt", "-v", "ON_ERROR_STOP=1", "-f", path, "-d", settings.uri]
                ).run()
                try #require(outcome.succeeded, "\(what): \(outcome.errorOutput)\n\(script.script)")
            } else {
                let bytes = Array(script.script.utf8)
                let statements = try SQLLexer.split(bytes)
                // The preamble and the transaction; each is one to a reader too.
                #expect(
                    statements.count == script.statements.count + Self.preamble + (script.isAtomic ? 2 : 0), "\(what)")
                try await execute(statements.map { String(decoding: bytes[$0.range], as: UTF8.self) })
            }
            let left = CatalogDiff().differences(expected: expected, found: try await read())
            for one in left {
                let values = [one.expected, one.found].map { $0?.debugDescription ?? "-" }
                Issue.record("\(what): \(one.object.kind.name) \(one.object) \(one.property ?? ""): \(values)")
            }
            try await checkNothingGotOut(what)
        }

        func checkNothingGotOut(_ what: String) async throws {
            let traces = try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    try connection.query(
                        """
                        SELECT relname::text FROM pg_catalog.pg_class WHERE relname IN ('won', 'called')
                        UNION ALL SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = 'won'
                        """
                    ).map { try $0.get(0, as: String.self) }
                }
            }
            #expect(traces == [], "\(what)")
            #expect(!FileManager.default.fileExists(atPath: file), "\(what)")
        }
    }

    private struct Failure: Error, CustomStringConvertible { let description: String }

    /// Runs `body` beside two databases with all that such a schema needs, and takes it away.
    private func withPlaces(
        _ attack: HostileZoo.Attack,
        _ body: (_ here: Place, _ there: Place, _ zoo: HostileZoo, _ changed: HostileZoo) async throws -> Void
    ) async throws {
        let name = "hostile_\(UUID().uuidString.prefix(8).lowercased())"
        let file = "/tmp/\(name.suffix(5))"
        let zoo = HostileZoo(attack, file: file)
        let here = Place(settings: try TestDatabase.current.settings, schemas: zoo.schemas, file: file)
        let there = Place(settings: here.settings.database(name), schemas: zoo.schemas, file: file)
        for sql in ["CREATE DATABASE \(name) TEMPLATE template0"] + zoo.common { try await TestCluster.runSQL(sql) }
        var failure: (any Error)?
        do {
            for place in [here, there] { try await place.execute(zoo.surroundings) }
            try await body(here, there, zoo, HostileZoo(attack, isChanged: true, file: file))
        } catch {
            failure = error
        }
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
        for role in zoo.roles {
            try await here.execute(["DROP OWNED BY \(quoteIdentifier(role)) CASCADE"])
            try await TestCluster.runSQL("DROP ROLE \(quoteIdentifier(role))")
        }
        if let failure { throw failure }
    }

    /// REEVE_HOSTILE_ROUNDS: how many orders of the names are tried.
    private static let attacks: [HostileZoo.Attack] = {
        let rounds = ProcessInfo.processInfo.environment["REEVE_HOSTILE_ROUNDS"].flatMap { UInt64($0) }
        let everywhere = rounds == nil ? [0, 3, 6, 8, 12, 14, 16] : Array(HostileZoo.attacks(file: "").indices)
        return (1...(rounds ?? 2)).map { .shuffled($0) } + everywhere.map { .everywhere($0) }
    }()

    @Test(.database, arguments: attacks) func everyNameStaysInItsPlace(_ attack: HostileZoo.Attack) async throws {
        try await withPlaces(attack) { here, there, zoo, changed in
            let nothing = try await here.read()
            let server = try await ZooServer.current
            try await here.execute(server.adapted(zoo.statements))
            let all = try await here.read()
            try await there.mend(to: all, byPsql: true, "from nothing")
            // The same objects, with other properties.
            try await there.mend(to: nothing, byPsql: true, "to nothing")
            try await there.execute(server.adapted(changed.statements))
            let other = try await there.read()
            try await there.mend(to: all, byPsql: true, "from other properties")
            try await here.mend(to: other, byPsql: false, "to other properties")
            try await here.mend(to: nothing, byPsql: false, "to nothing, by statements")
            try await here.mend(to: all, byPsql: false, "from nothing, by statements")
        }
    }

    /// An owner of a database decides what its sessions begin with, and what names mean there.
    @Test(.database) func nothingOfTheDatabaseIsTakenForPostgresOwn() async throws {
        let database = try TestDatabase.current
        let here = Place(settings: database.settings, schemas: ["app"], file: "/tmp/\(database.name.prefix(8))")
        try await here.execute([
            "CREATE SCHEMA app", "CREATE TYPE app.letters AS ENUM ('a', 'b')",
            "CREATE TABLE app.\"é\" (id integer PRIMARY KEY, letter app.letters, note text COLLATE \"C\")",
            "INSERT INTO app.\"é\" VALUES (1, 'a', 'x')",
            "CREATE TABLE app.u (id integer GENERATED ALWAYS AS IDENTITY, t integer REFERENCES app.\"é\")",
            "COMMENT ON TABLE app.u IS \(quoteLiteral("a\\'; --"))",
        ])
        let good = try await here.read()
        try await here.execute([
            "ALTER TYPE app.letters ADD VALUE 'c'", "ALTER TABLE app.\"é\" ALTER note SET STORAGE external",
            "ALTER TABLE app.\"é\" DISABLE TRIGGER ALL", "ALTER TABLE app.u DISABLE TRIGGER ALL",
            "ALTER TABLE app.u ALTER id DROP IDENTITY", "COMMENT ON TABLE app.u IS NULL",
            "CREATE FUNCTION public.attack() RETURNS text LANGUAGE plpgsql AS "
                + "'BEGIN EXECUTE ''CREATE TABLE IF NOT EXISTS public.called ()''; RETURN NULL; END'",
        ])
        let signatures = [
            "format(text, anyenum)", "format(text, regclass, name)", "max(integer)", "setval(text, bigint)",
            "pg_get_serial_sequence(text, text)", "both(text, text)",
        ]
        try await here.execute(
            signatures.map { "CREATE FUNCTION public.\($0) RETURNS text LANGUAGE sql AS 'SELECT public.attack()'" } + [
                "CREATE OPERATOR public.|| (FUNCTION = public.both, LEFTARG = text, RIGHTARG = text)",
                "ALTER DATABASE \(database.name) SET search_path = public, pg_catalog",
                "ALTER DATABASE \(database.name) SET standard_conforming_strings = off",
                "ALTER DATABASE \(database.name) SET client_encoding = 'LATIN1'",
            ])
        try await here.mend(to: good, byPsql: true, "among strangers")
    }
}
