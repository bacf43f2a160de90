import Catalog
import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.heavy, .timeLimit(.minutes(8)))
struct SnapshotTests {
    @Test(.database(Zoo.template)) func snapshotIsReadBackAsItWas() async throws {
        let catalog = try await Zoo.read(TestDatabase.current.settings)
        let text = SchemaSnapshot.text(of: catalog, notes: [("digest", "abc")])
        let (again, notes) = try SchemaSnapshot.parse(text, file: "zoo")
        #expect(notes == ["digest": "abc"])
        #expect(CatalogDiff().differences(expected: catalog, found: again) == [])
        #expect(again.sorted == catalog.sorted)
        #expect(again.sorted.map(\.dependencies) == catalog.sorted.map(\.dependencies))
        #expect(SchemaSnapshot.text(of: again, notes: [("digest", "abc")]) == text)
    }

    /// Objects come and go while they are read: neither an error nor half an object.
    @Test(.database) func readingBesideChanges() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA zoo", "CREATE TABLE zoo.always (id integer)")
        let changes = Task {
            try await database.connection { connection in
                while !Task.isCancelled {
                    try await connection.with { connection in
                        try connection.execute(
                            """
                            CREATE TABLE zoo.t (id serial PRIMARY KEY, a text DEFAULT 'x' CHECK (a <> ''));
                            CREATE INDEX ON zoo.t (lower(a)); CREATE VIEW zoo.v AS SELECT * FROM zoo.t
                            """)
                        try connection.execute("DROP VIEW zoo.v; DROP TABLE zoo.t")
                    }
                }
            }
        }
        for _ in 0..<60 {
            let catalog = try await Zoo.read(database.settings)
            #expect(catalog[ObjectIdentity(.table, schema: "zoo", "always")] != nil)
            if let table = catalog[ObjectIdentity(.table, schema: "zoo", "t")] {
                #expect(table["column order"] == "id, a")
                #expect(
                    catalog[ObjectIdentity(.constraint, schema: "zoo", parent: "t", "t_a_check")]?["expression"] != nil)
                #expect(catalog[ObjectIdentity(.view, schema: "zoo", "v")]?["definition"] != nil)
            }
        }
        changes.cancel()
        _ = await changes.result
    }

    /// Whoever holds a table back does not hold up the comparison for long.
    @Test(.database) func aLockedViewIsATransientError() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA zoo", "CREATE VIEW zoo.v AS SELECT 1 AS a")
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE zoo.v IN ACCESS EXCLUSIVE MODE") }
            let error = await #expect(throws: PostgresError.self) { _ = try await Zoo.read(database.settings) }
            #expect(error?.isTransient == true)
        }
    }
}
