import Catalog
import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// In which backups a table had which rows.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct TableFinderTests {
    private func finder(_ vault: Vault) async throws -> TableFinder {
        TableFinder(
            [(vault.repository, try await vault.repository.manifests(of: "main"))], settings: vault.restoring,
            folder: "\(vault.folder)/scratch", beside: nil)
    }

    @Test func `a table is found in the backups that have it, with its rows and changes`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let maker = vault.maker(database.settings)
        var ids: [String] = []
        for statement in [
            "CREATE TABLE public.other (a int)",
            """
            CREATE TYPE public.state AS ENUM ('new', 'old');
            CREATE TABLE public.t (id int PRIMARY KEY, state public.state, note varchar(40), double int GENERATED ALWAYS AS (id * 2) STORED);
            INSERT INTO public.t SELECT n, 'new', 'note ' || n FROM generate_series(1, 12) n
            """,
            "INSERT INTO public.other VALUES (1)",
            "UPDATE public.t SET state = 'old', note = NULL WHERE id IN (2, 10); DELETE FROM public.t WHERE id = 3; INSERT INTO public.t VALUES (13, 'new', 'x')",
            "TRUNCATE public.t", "DROP TABLE public.t",
        ] {
            try await database.execute(statement)
            ids.append(try await maker.make().manifest.id)
        }
        let finder = try await finder(vault)
        let history = try await finder.history(of: "t")
        #expect(history.table == "public.t" && history.entries.map(\.backup) == ids.reversed())
        #expect(history.entries.map(\.rows) == [nil, 0, 12, 12, 12, nil])
        #expect(history.entries.map(\.change) == [.absent, .changed, .changed, .same, .new, .absent])
        #expect(history.newestWithRows?.backup == ids[3])
        #expect(try await finder.history(of: "\"public\".\"t\"").entries == history.entries)
        await #expect(throws: BackupError.self) { try await finder.history(of: "none") }

        // Whether equal rows have changed is not known if they were hashed in another way.
        var other = try #require(try await vault.repository.manifests(of: "main").dropFirst().first)
        func changes(_ manifests: [Manifest]) throws -> [TableHistory.Entry.Change] {
            try TableHistory(
                of: "other", in: manifests, names: [FetchedTable(schema: "public", name: "other")]
            ) { table, _ in [table] }.entries.map(\.change)
        }
        #expect(try changes([other, other]) == [.same, .new])
        let text = String(decoding: try JSONEncoder().encode(other), as: UTF8.self)
        let digest = try #require(other.tables.first { $0.name == "other" }).digest
        let copied = text.replacing("\"\(digest)\"", with: "\"\(String(repeating: "b", count: 32))\",\"isOfCopy\":true")
        let first = other
        other = try JSONDecoder().decode(Manifest.self, from: Data(copied.utf8))
        #expect(try changes([first, other]) == [.unknown, .new])

        let matches = try await finder.matches("id > 9 AND state = 'new' AND length(note) < 8", of: history)
        #expect(matches == [ids[1]: 3, ids[2]: 3, ids[3]: 3, ids[4]: 0])
        await #expect(throws: PostgresError.self) {
            try await finder.matches("true); DROP TABLE x; SELECT (1", of: history)
        }

        let difference = try await finder.difference(from: ids[1], to: ids[3], of: history)
        #expect(difference.isKeyed && difference.key == ["id"])
        #expect(difference.added == RowDifference.Rows(count: 1, first: [["13"]]))
        #expect(difference.removed == RowDifference.Rows(count: 1, first: [["3"]]))
        #expect(difference.changed == RowDifference.Rows(count: 2, first: [["2"], ["10"]]))
        let gone = try await finder.difference(from: ids[3], to: ids[4], of: history).removed
        #expect(gone.count == 12 && gone.first == [["1"], ["2"], ["4"], ["5"], ["6"]])
        await #expect(throws: BackupError.self) { try await finder.difference(from: ids[1], to: ids[5], of: history) }
    }

    @Test func `a partitioned table and one without a key are compared by their rows`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TABLE public.p (a int, b text) PARTITION BY RANGE (a);
            CREATE TABLE public.p_1 PARTITION OF public.p FOR VALUES FROM (0) TO (10);
            CREATE TABLE public.p_2 (b text, a int);
            ALTER TABLE public.p ATTACH PARTITION public.p_2 FOR VALUES FROM (10) TO (20);
            INSERT INTO public.p VALUES (1, 'x'), (1, 'x'), (11, NULL)
            """)
        let maker = vault.maker(database.settings)
        let first = try await maker.make().manifest.id
        try await database.execute(
            "DELETE FROM public.p WHERE ctid = '(0,1)' AND a = 1; UPDATE public.p SET b = E'\\\\.\\n' WHERE a = 11",
            "ALTER TABLE public.p ADD COLUMN c int")
        let second = try await maker.make().manifest.id
        let finder = try await finder(vault)
        let history = try await finder.history(of: "public.p")
        #expect(history.entries.map(\.rows) == [2, 3] && history.entries.map(\.change) == [.changed, .new])
        let difference = try await finder.difference(from: first, to: second, of: history)
        #expect(!difference.isKeyed && difference.key == ["a", "b"] && difference.changed.count == 0)
        #expect(difference.added == RowDifference.Rows(count: 1, first: [["11", "\\.\n"]]))
        #expect(difference.removed.count == 2 && difference.removed.first == [["1", "x"], ["11", nil]])
        #expect(difference.newColumns == ["c"] && difference.goneColumns == [])
    }

    @Test func `a partition is found whose rows are dumped for its root`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TYPE public.kind AS ENUM ('a', 'b', 'c', 'd', 'e', 'f');
            CREATE TABLE public.m (id int, kind public.kind) PARTITION BY HASH (kind);
            CREATE TABLE public.m1 PARTITION OF public.m FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE public.m2 PARTITION OF public.m FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO public.m SELECT n, (enum_range(NULL::public.kind))[1 + n % 6] FROM generate_series(1, 600) n
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        let finder = try await finder(vault)
        for name in ["m1", "m2", "m"] {
            let rows: Int = try await database.value("SELECT count(*) FROM public.\(name)")
            #expect(try await finder.matches("id > 0", of: finder.history(of: name)) == [manifest.id: rows], "\(name)")
        }
        // The partitions alone are tables of their own, each with its rows.
        let counts = "SELECT (SELECT count(*) FROM public.m1) || '/' || (SELECT count(*) FROM public.m2)"
        let before: String = try await database.value(counts)
        let name = "alone_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        var selection = PartialRestore.Selection()
        selection.tables = ["m1", "m2"]
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        _ = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: target)
        let after = try await Connection.opened(target) { try await $0.value(counts, as: String.self) }
        #expect(after == before)
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    /// A catalog is input.
    @Test func `a table that is its own ancestor ends no search`() throws {
        let catalog = try SchemaSnapshot.parse(
            """
            reeve schema snapshot 1
            server: 15
            schemas: public

            table public.a
              partition of: public.b

            table public.b
              partition of: public.a

            """, file: "catalog"
        ).catalog
        let table = CatalogTable(FetchedTable(schema: "public", name: "a"), in: catalog)
        #expect(table?.members.map(\.table.name) == ["a"])
    }
}
