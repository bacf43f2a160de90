import Foundation
import Postgres
import Processes
import SQL
import Telemetry
import TestSupport
import Testing

@testable import Backups

/// Every table of two sample databases comes back alone.
@Suite(.heavy, .database, .timeLimit(.minutes(20)))
struct SingleTableTests {
    /// The rows of a table, sorted, without the tables that inherit from it.
    private static func rows(_ path: String, in settings: ConnectionSettings) async throws -> [String] {
        try await Connection.opened(settings.plain) { connection in
            try await connection.with { connection in
                try connection.query("SELECT t::text FROM \(path) t ORDER BY 1").map { try $0.get(0) }
            }
        }
    }

    private static func restore(
        _ table: FetchedTable, _ vault: Vault, _ manifest: Manifest, into target: ConnectionSettings,
        schema: String? = nil
    ) async throws -> [String] {
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        var selection = PartialRestore.Selection()
        selection.tables = [table.path]
        selection.intoSchema = schema
        return try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: target)
    }

    /// Whether a note is about something that another table is needed for.
    private static func isAboutOthers(_ note: String) -> Bool {
        note.contains("FOREIGN KEY") || note.contains("foreign key") || note.contains("independent table")
    }

    private final class Lines: LogSink {
        private let lines = Gathered<String>()
        var all: [String] { lines.all }
        func write(_ line: LogLine) { lines.add(["\(line.message) \(line.fields)"]) }
    }

    /// DROP TABLE … CASCADE drops more than the table.
    @Test(.database) func `what depended on a table and is missing is named`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TABLE public.t (a integer);
            CREATE TABLE public.other (a integer);
            CREATE VIEW public.v AS SELECT a FROM public.t;
            CREATE MATERIALIZED VIEW public.w AS SELECT a FROM public.v;
            CREATE FUNCTION public.f(x public.t) RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE POLICY mine ON public.other USING (a IN (SELECT a FROM public.t));
            CREATE POLICY own ON public.t USING (a IN (SELECT a FROM public.t));
            CREATE RULE also AS ON INSERT TO public.other DO ALSO INSERT INTO public.t VALUES (1);
            CREATE VIEW public.apart AS SELECT a FROM public.other;
            """)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        func restored() async throws -> [String] {
            try await database.execute("DROP TABLE public.t CASCADE")
            let said = Lines()
            let restorer = Restorer(
                repository: vault.repository, manifest: manifest, settings: vault.restoring,
                logger: Logger(level: .info, sink: said))
            var selection = PartialRestore.Selection()
            selection.tables = ["public.t"]
            let notes = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
                .restore(into: database.settings)
            #expect(notes == [])
            return said.all.filter { $0.contains("depend on the tables") }
        }
        let first = try #require(try await restored().first)
        for object in [
            "view public.v", "materialized view public.w", "function public.f(public.t)", "policy mine on public.other",
            "rule also on public.other",
        ] { #expect(first.contains(object), "\(first)") }
        for object in ["apart", "own on"] { #expect(!first.contains(object), "\(first)") }
        try await database.execute("DROP TABLE public.other CASCADE")
        let second = try #require(try await restored().first)
        #expect(second.contains("view public.v") && !second.contains("public.other"), "\(second)")
    }

    @Test(arguments: SampleDatabase.allCases)
    func `every table comes back alone, into an empty database and into another schema`(_ sample: SampleDatabase)
        async throws
    {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("SET search_path = public;\n" + sample.script)
        let manifest = try await vault.maker(database.settings) {
            $0.sizes = TableSlice.Sizes(large: 8192, slice: 8192)
        }.make().manifest
        let tables = try await database.connection { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT relname::text FROM pg_class
                    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1
                    """
                ).map { FetchedTable(schema: "public", name: try $0.get(0)) }
            }
        }
        #expect(tables.count >= 11)
        let queue = SharedQueue(Array(tables.enumerated()))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                group.addTask {
                    while let (number, table) = queue.next() {
                        let expected = try await Self.rows(table.path, in: database.settings)
                        let schema = "copy_\(number)"
                        let moved = try await Self.restore(
                            table, vault, manifest, into: database.settings, schema: schema)
                        #expect(moved.filter { !Self.isAboutOthers($0) } == [], "\(table.path)")
                        let copy = FetchedTable(schema: schema, name: table.name)
                        #expect(try await Self.rows(copy.path, in: database.settings) == expected, "\(table.path)")

                        let name = "\(database.name)_\(number)"
                        try await TestCluster.runSQL("CREATE DATABASE \(name) TEMPLATE template0")
                        let target = database.settings.database(name)
                        let notes = try await Self.restore(table, vault, manifest, into: target)
                        #expect(notes.filter { !Self.isAboutOthers($0) } == [], "\(table.path)")
                        #expect(try await Self.rows(table.path, in: target) == expected, "\(table.path)")
                        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
                    }
                }
            }
            for try await _ in group {}
        }
    }

    /// Otherwise the next row gets a number that a restored row has.
    @Test func `a sequence that a table needs goes on where it was`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE SEQUENCE public.ids START 1000; CREATE SEQUENCE public.unused START 7;
            CREATE TABLE public.t (id int PRIMARY KEY DEFAULT nextval('public.ids'), other int DEFAULT nextval('public.unused'));
            INSERT INTO public.t (other) SELECT 1 FROM generate_series(1, 61)
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        let name = "\(database.name)_ids"
        try await TestCluster.runSQL("CREATE DATABASE \(name) TEMPLATE template0")
        let target = database.settings.database(name)
        _ = try await Self.restore(FetchedTable(schema: "public", name: "t"), vault, manifest, into: target)
        let next = try await Connection.opened(target) {
            try await $0.value("INSERT INTO public.t DEFAULT VALUES RETURNING id || '/' || other", as: String.self)
        }
        #expect(next == "1061/7")
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }
}
