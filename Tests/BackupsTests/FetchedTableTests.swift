import Catalog
import Postgres
import SQL
import Testing

@testable import Backups

/// Which tables are fetched out of a backup, and what goes with them.
struct FetchedTableTests {
    @Test func `tables are chosen by their bytes, with their partitions`() throws {
        func known(_ oid: Int, _ schema: String, _ name: String, of parents: Int...) -> TableSelection.Known {
            TableSelection.Known(
                oid: oid, table: FetchedTable(schema: schema, name: name), parents: parents,
                spellings: [ExactText("\(schema).\(name)"), ExactText(name)])
        }
        let all = TableSelection(
            schemas: ["a", "b", "pg_catalog"],
            tables: [
                known(1, "a", "é"), known(2, "a", "e\u{301}"), known(3, "a", "t"), known(4, "b", "t"),
                known(5, "b", "t_1", of: 4), known(6, "a", "t_1_1", of: 5, 4), known(7, "pg_catalog", "é"),
            ], others: [ExactText("b.v"): "view"])
        func chosen(_ tables: [String], _ schemas: [String] = []) throws -> [String] {
            var selection = PartialRestore.Selection()
            (selection.tables, selection.schemas) = (tables, schemas)
            return try all.resolve(selection).map { "\($0.schema).\($0.name)" }
        }
        #expect(try chosen(["é"]).map { Array($0.utf8) } == [Array("a.é".utf8)])
        #expect(try chosen(["b.t"]) == ["a.t_1_1", "b.t", "b.t_1"])
        #expect(try chosen([], ["b"]) == ["b.t", "b.t_1"])
        for (tables, schemas) in [(["t"], []), (["none"], []), ([], ["none"])] as [([String], [String])] {
            #expect(throws: BackupError.self) { try chosen(tables, schemas) }
        }
        let error = #expect(throws: BackupError.self) { try chosen(["b.v"]) }
        guard case .notTable("b.v", kind: "view") = error else {
            return #expect(Bool(false), "\(String(describing: error))")
        }
    }

    @Test func `foreign keys are those of their tables, with comments on them`() throws {
        let script = """
            SET search_path = '';
            ALTER TABLE ONLY public."a
            ADD" ADD CONSTRAINT one FOREIGN KEY (x) REFERENCES public.t(id);
            COMMENT ON CONSTRAINT one ON public."a
            ADD" IS 'why; ALTER TABLE public.t';
            ALTER TABLE public.other ADD CONSTRAINT "ALTER TABLE public.t" FOREIGN KEY (x) REFERENCES public.t(id);
            COMMENT ON CONSTRAINT x ON public.other IS 'no';
            ALTER TABLE public.t ADD CONSTRAINT two FOREIGN KEY (x) REFERENCES public.t(id);
            """
        let tables: Set = [FetchedTable(schema: "public", name: "a\nADD"), FetchedTable(schema: "public", name: "t")]
        let keys = try LateConstraints.read(Array(script.utf8), of: tables, file: "x").constraints
        #expect(keys.map(\.comments.count) == [1, 0])
        #expect(keys.last?.statement.hasPrefix("ALTER TABLE public.t ADD CONSTRAINT two") == true)
        let all = try LateConstraints.statements(of: Array(script.utf8), file: "x")
        #expect(all.makes.count == 3 && all.makes.allSatisfy { $0.statement.hasPrefix("ALTER TABLE") })
        #expect(all.makes.map { $0.tables.map(\.name).sorted() } == [["a\nADD", "t"], ["other", "t"], ["t"]])
        #expect(all.notes.count == 2 && all.notes.allSatisfy { $0.hasPrefix("COMMENT") })
    }

    @Test func `a backup that lacks a constraint that is left is refused`() throws {
        let table = FetchedTable(schema: "s", name: "t")
        let keys = ["one", "two"].map { LateConstraints.Constraint(table: table, name: $0, statement: "") }
        let record = UnfinishedRestore(backup: "b", PartialRestore.Selection(), tables: [table], constraints: keys)
        #expect(try record.missing(of: keys, object: "o") == keys)
        let error = #expect(throws: BackupError.self) { try record.missing(of: [keys[0]], object: "o") }
        guard case .part("o", let reason)? = error, reason.contains("two of s.t") else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func `of constraints that are made at once no two lock a table`() {
        func making(_ tables: String...) -> LateConstraints.Making {
            LateConstraints.Making(
                statement: tables.joined(), tables: Set(tables.map { FetchedTable(schema: "s", name: $0) }))
        }
        let ring = (0..<20).map { making("t\($0)", "t\(($0 + 1) % 20)") }
        let hub = (0..<20).map { making("u\($0)", "hub") }
        let rounds = LateConstraints.rounds(of: ring + hub, width: 4)
        #expect(rounds.joined().map(\.statement).sorted() == (ring + hub).map(\.statement).sorted())
        for round in rounds {
            #expect(round.count <= 4)
            #expect(Set(round.flatMap(\.tables)).count == round.reduce(0) { $0 + $1.tables.count })
        }
        // The hub takes 20 by itself.
        #expect((20...25).contains(rounds.count))
    }

    @Test func `what has come otherwise is said of these tables alone, and of no foreign key`() {
        func object(_ kind: ObjectKind, _ name: String, of table: String?, _ more: (String, String)...) -> CatalogObject
        {
            CatalogObject(
                ObjectIdentity(kind, schema: "s", parent: table, name),
                properties: more.map { (name: $0.0, value: $0.1) })
        }
        func catalog(_ objects: [CatalogObject]) -> SchemaCatalog {
            SchemaCatalog(schemas: ["s"], serverVersion: 15, objects: objects)
        }
        let was = catalog([
            object(.table, "t", of: nil, ("row level security", "enabled")), object(.policy, "p", of: "t"),
            object(.index, "i", of: "t"), object(.constraint, "f", of: "t", ("type", "foreign key")),
            object(.table, "other", of: nil), object(.index, "o", of: "other"),
        ])
        let now = catalog([
            object(.table, "t", of: nil), object(.index, "i", of: "t"), object(.trigger, "g", of: "t"),
        ])
        let notes = TableComparison(tables: [FetchedTable(schema: "s", name: "t")]).notes(expected: was, found: now)
        #expect(
            notes == [
                "table s.t: row level security is default, but in the backup it is enabled",
                "trigger s.t.g is not in the backup",
                "policy s.t.p was not restored",
            ], "\(notes)")
    }
}
