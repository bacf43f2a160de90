import Postgres
import SQL
import TestSupport
import Testing

@testable import Catalog

@Suite struct KindTests {
    @Test func everyKindHasANameOfItsOwnAndASQLWord() {
        for kind in ObjectKind.allCases {
            #expect(ObjectKind(name: kind.name) == kind)
            #expect(!ObjectIdentity(kind, schema: "s", parent: "t", "n").word.isEmpty)
        }
        #expect(ObjectKind(name: "table space") == nil)
    }

    /// PostgreSQL manual, table 5.2.
    @Test(arguments: [
        (ObjectKind.table, "DELETE, INSERT, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE", "none"),
        (.aggregate, "EXECUTE", "EXECUTE"), (.compositeType, "USAGE", "USAGE"), (.foreignServer, "USAGE", "none"),
        (.schema, "CREATE, USAGE", "none"), (.sequence, "SELECT, UPDATE, USAGE", "none"), (.column, "none", "none"),
    ])
    func newObjectsHavePrivileges(_ kind: ObjectKind, owner: String, everybody: String) {
        let change = PrivilegeChange(object: CatalogObject(ObjectIdentity(kind, schema: "s", "n")), owner: "o")
        #expect(change.standard("(owner)") == owner && change.standard("public") == everybody)
        #expect(change.standard("somebody") == "none")
    }

    @Test(arguments: [
        ("functions", "EXECUTE", "EXECUTE"), ("types", "USAGE", "USAGE"), ("schemas", "CREATE, USAGE", "none"),
    ])
    func defaultPrivilegesAreThoseOfTheirKind(_ name: String, owner: String, everybody: String) {
        func change(_ schema: String?) -> PrivilegeChange {
            PrivilegeChange(
                object: CatalogObject(ObjectIdentity(.defaultPrivileges, schema: schema, name, signature: "")),
                owner: "o")
        }
        #expect(change(nil).standard("(owner)") == owner && change(nil).standard("public") == everybody)
        #expect(change("s").standard("(owner)") == "none")
    }
}

@Suite struct SpellingTests {
    @Test(arguments: [
        (
            "((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            "((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))"
        ),
        ("x = ANY (ARRAY['a'::text])", "x = ANY (ARRAY['a'::text])"),
        ("(ARRAY[1, 2])::bigint[]", "ARRAY[1::bigint, 2::bigint]"),
        (
            "'(ARRAY[1])::int[]' || (ARRAY[f(1, 2)])::pg_catalog.\"char\"[]",
            "'(ARRAY[1])::int[]' || ARRAY[(f(1, 2))::pg_catalog.\"char\"]"
        ),
        ("a[1] + (b)::integer", "a[1] + (b)::integer"),
    ])
    func castsOfArraysArePushedInwards(_ text: String, _ canonical: String) {
        #expect(ExpressionSpelling.canonical(text) == canonical)
        #expect(ExpressionSpelling.canonical(canonical) == canonical)
    }

    /// As versions 15 and 16 spell the same view.
    @Test(arguments: [
        (
            "SELECT jobs.id,\n    jobs.name AS n\n   FROM v.jobs\n  WHERE (jobs.id > 1)",
            "SELECT id,\n    name AS n\n   FROM v.jobs\n  WHERE (id > 1)"
        ),
        (
            "SELECT j.id FROM v.jobs j GROUP BY j.id ORDER BY j.id DESC",
            "SELECT id FROM v.jobs j GROUP BY id ORDER BY id DESC"
        ),
        // Another output column has the name.
        ("SELECT j.a AS b, j.b AS a FROM v.jobs j ORDER BY j.b", "SELECT a AS b, b AS a FROM v.jobs j ORDER BY j.b"),
        // Several relations, and queries within.
        (
            "SELECT a.id, b.id AS x FROM a JOIN b ON (a.id = b.id)",
            "SELECT a.id, b.id AS x FROM a JOIN b ON (a.id = b.id)"
        ),
        ("SELECT a.id FROM a, b", "SELECT a.id FROM a, b"),
        ("SELECT a.id FROM a UNION SELECT b.id FROM b", "SELECT a.id FROM a UNION SELECT b.id FROM b"),
        (
            "SELECT a.id, ( SELECT count(*) FROM b WHERE (b.x = a.id)) AS n FROM s.a",
            "SELECT id, ( SELECT count(*) FROM b WHERE (b.x = a.id)) AS n FROM s.a"
        ),
        ("SELECT x.id FROM ( SELECT a.id FROM a) x", "SELECT id FROM ( SELECT a.id FROM a) x"),
        ("SELECT h.a, f.h FROM s.f(1, 2) h(a, b)", "SELECT a, f.h FROM s.f(1, 2) h(a, b)"),
        ("SELECT a.*::s.a AS a, s.a(a.id) AS f FROM s.a", "SELECT a.*::s.a AS a, s.a(id) AS f FROM s.a"),
        ("SELECT \"Odd\".\"C\" FROM s.\"Odd\"", "SELECT \"C\" FROM s.\"Odd\""), ("SELECT 1", "SELECT 1"),
    ])
    func viewsOfOneRelationAreSpelledWithoutIt(_ text: String, _ canonical: String) {
        #expect(ViewSpelling.canonical(text) == canonical)
        #expect(ViewSpelling.canonical(canonical) == canonical)
    }

    @Test(arguments: [
        ("table a.b", "table a.b", true), ("table a.*", "table a.b", true), ("table a.?", "table a.bc", false),
        ("*", "", true), ("*.b: comment", "table a.b: comment", true), ("a*c*e", "abcde", true),
        ("a*c*e", "abde", false),
        ("", "a", false), ("**", "abc", true),
    ])
    func patterns(_ pattern: String, _ text: String, _ fits: Bool) {
        #expect(IgnoreList.matches(pattern, text) == fits)
    }

    @Test func namesAreTakenApartAndPutTogether() {
        for parts in [["a", "b"], ["A b", "c.d"], ["x\"y", "select"], ["ä", "1a"]] {
            let text = parts.map(PlainName.quoted).joined(separator: ".")
            #expect(QualifiedName.parts(text[...]) == parts)
        }
        #expect(QualifiedName.list(#"a, "b, c", f(d, e)"#) == ["a", "\"b, c\"", "f(d, e)"])
    }

    @Test(arguments: [
        (#"a, "b, c", f(d, e)"#, ["a", #""b, c""#, "f(d, e)"]), (#"a='x, y', b"#, ["a='x, y'", "b"]),
        (#"a='it''s, y', b"#, ["a='it''s, y'", "b"]), (#"E'\', ', b"#, [#"E'\', '"#, "b"]),
        (#"E'''\', ', b"#, [#"E'''\', '"#, "b"]), (#"date'\', b"#, [#"date'\'"#, "b"]),
        (#"'"', "'", b"#, [#"'"'"#, #""'""#, "b"]), ("\"a\"\u{301}, b\",c", ["\"a\"\u{301}", "b\",c"]),
        ("\"\"\"\u{301}, b\",\u{301}c", ["\"\"\"\u{301}, b\"", "\u{301}c"]), ("a),b", ["a)", "b"]),
    ])
    func listsAreTakenApartOutsideQuotes(_ text: String, _ parts: [String]) {
        #expect(QualifiedName.list(text).map(ExactText.init) == parts.map(ExactText.init))
        let lines = text.substituting(", ", with: "\n").substituting(",", with: "\n")
        let wanted = parts.map { $0.substituting(", ", with: "\n").substituting(",", with: "\n") }
        if !text.contains("(") { #expect(QualifiedName.exactLines(lines) == wanted.map(ExactText.init)) }
    }

    @Test func textsThatOnlyLookAlikeDiffer() {
        let (one, two) = ("\u{e9}", "e\u{301}")
        let table = ObjectIdentity(.table, schema: "s", "t")
        let catalog = { (text: String) in
            SchemaCatalog(
                schemas: [ExactText(text)], serverVersion: 15,
                objects: [
                    CatalogObject(table, properties: [("comment", text), ("privileges of \"\(text)\"", "SELECT")])
                ])
        }
        let found = CatalogDiff().differences(expected: catalog(one), found: catalog(two))
        #expect(
            found.compactMap { $0.property.map(ExactText.init) } == [
                "comment", "privileges of \"e\u{301}\"", "privileges of \"\u{e9}\"",
            ])
        #expect(catalog(one).schemas != catalog(two).schemas)
        let names = [one, two].map { ObjectIdentity(.table, schema: "s", $0) }
        #expect(names.sorted() == Array(names.reversed()) && names.reversed().sorted() == Array(names.reversed()))
        let both = SchemaCatalog(schemas: ["s"], serverVersion: 15, objects: names.map { CatalogObject($0) })
        for name in names { #expect(both.object(at: name.path) == name) }
    }

    /// The rest of a name would be SQL, or psql's own commands.
    @Test(arguments: ["\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{c}\n"])
    func aNoteEndsWhereItsLineDoes(_ end: String) {
        var script = MendScript()
        script.add("DROP TABLE a", note: "table x\(end)\\! date")
        let ends = "\n\r\u{85}\u{2028}\u{c}".unicodeScalars
        let lines = script.text.unicodeScalars.split { ends.contains($0) }.map { String($0) }
        #expect(lines.count == 2 && lines[0].hasPrefix("--") && lines[1] == "DROP TABLE a;")
        script.statements = []
        script.withheld = [MendScript.Statement(sql: "DROP TABLE \"a\(end)\\! date\"", note: nil, loss: "x\(end)y")]
        let comments = script.text.unicodeScalars.split { ends.contains($0) }.map { String($0) }
        #expect(comments.count >= 3 && comments.allSatisfy { $0.hasPrefix("-- ") }, "\(comments)")
    }

    @Test func identitiesAreReadAsTheyAreWritten() {
        let all = [
            ObjectIdentity(.table, schema: "a b", "C"), ObjectIdentity(.column, schema: "s", parent: "t", "x.y"),
            ObjectIdentity(.function, schema: "s", "f", signature: "integer, numeric(3,2)"),
            ObjectIdentity(.textSearchConfiguration, schema: "s", "words"), ObjectIdentity(.cast, "a AS b"),
            ObjectIdentity(.domainConstraint, schema: "s", parent: "d", "c"), ObjectIdentity(.schema, "s"),
            ObjectIdentity(.defaultPrivileges, "tables", signature: ""),
            ObjectIdentity(.defaultPrivileges, schema: "s", "tables", signature: "r"),
            ObjectIdentity(.operation, schema: "s", "<->", signature: "text, text"),
        ]
        for identity in all { #expect(ObjectIdentity("\(identity.kind.name) \(identity)") == identity) }
        for bad in ["table", "tabel a.b", "column a.b", "table a.b.c", "function a.f", "schema a.b", ""] {
            #expect(ObjectIdentity(bad) == nil, "\(bad)")
        }
    }

    @Test(arguments: [
        ("", 1), ("reeve schema snapshot 1\n\n", 2), ("reeve schema snapshot 1\nserver: 15\n\nfrog a.b\n", 4),
        ("reeve schema snapshot 1\nserver: 15\n\ntable a.b\n  comment\n", 5),
        ("reeve schema snapshot 1\nserver: 15\n\ntable a.b\n  comment: |9\n    x\n", 5),
    ])
    func badSnapshotsAreRefusedWithTheLine(_ text: String, _ line: Int) {
        let error = #expect(throws: SnapshotError.self) { try SchemaSnapshot.parse(text, file: "f") }
        #expect(error?.line == line)
    }
}

@Suite struct ForeignKeyGraphTests {
    private func catalog(_ edges: [(Int, Int)], tables: Int) -> SchemaCatalog {
        var objects = (0..<tables).map { CatalogObject(ObjectIdentity(.table, schema: "s", "t\($0)")) }
        for (number, edge) in edges.enumerated() {
            objects.append(
                CatalogObject(
                    ObjectIdentity(.constraint, schema: "s", parent: "t\(edge.0)", "k\(number)"),
                    properties: [
                        ("type", "foreign key"), ("columns", "a"), ("references", "s.t\(edge.1)"),
                        ("referenced columns", "id"),
                    ]))
        }
        return SchemaCatalog(schemas: ["s"], serverVersion: 15, objects: objects)
    }

    @Test func eachGroupComesAfterWhatItPointsTo() {
        for _ in 0..<200 {
            let count = Int.random(in: 1...12)
            let edges = (0..<Int.random(in: 0...20)).map { _ in (Int.random(in: 0..<count), Int.random(in: 0..<count)) }
            let catalog = catalog(edges, tables: count)
            let order = ForeignKeyGraph(catalog).order(of: catalog.objects.keys.filter { $0.kind == .table })
            var place: [String: Int] = [:]
            for (number, group) in order.enumerated() { for table in group { place[table.name] = number } }
            #expect(place.count == count)
            for (from, to) in edges {
                #expect((place["t\(from)"] ?? -1) >= (place["t\(to)"] ?? .max), "\(edges)")
                // In one group exactly when there is a way back.
                if place["t\(from)"] == place["t\(to)"] { #expect(reaches(to, from, edges)) }
            }
        }
    }

    private func reaches(_ start: Int, _ goal: Int, _ edges: [(Int, Int)]) -> Bool {
        var seen: Set<Int> = [start]
        var waiting = [start]
        while let next = waiting.popLast() {
            if next == goal { return true }
            for edge in edges where edge.0 == next && seen.insert(edge.1).inserted { waiting.append(edge.1) }
        }
        return false
    }
}

/// Numbers of other people's that a sum would be too large for.
@Suite struct LargeNumberTests {
    @Test func literalsOfChecksAtTheEdgeHaveNeighbours() {
        let values = TrialValues(catalog: SchemaCatalog(schemas: ["s"], serverVersion: 150000))
        let checks = ["CHECK ((a < '9223372036854775807'::bigint))", "CHECK ((a > (-9223372036854775808)))"]
        for type in ["bigint", "integer", "numeric(9223372036854775807,-9223372036854775808)", "text", "integer[]"] {
            _ = values.candidates(type, checks: checks + ["CHECK ((a < 9223372036854775807))"])
            _ = values.fresh(type, unlike: nil)
        }
    }

    @Test func aSnapshotOfWhateverNamesIsReadBackAsItWas() throws {
        var generator = SeededGenerator(9)
        let names = HostileNames.known + (0..<500).map { _ in HostileNames.name(&generator) }
        for name in names {
            let table = ObjectIdentity(.table, schema: name, name)
            let privileges = ObjectIdentity(.defaultPrivileges, "tables", signature: quoteIdentifier(name))
            let function = ObjectIdentity(.function, schema: "s", name, signature: PlainName.quoted(name) + ", integer")
            var column = CatalogObject(
                ObjectIdentity(.column, schema: name, parent: name, name),
                properties: [
                    ("type", "text"), ("comment", name), ("privileges of \(quoteIdentifier(name))", "SELECT"),
                ])
            column.dependencies = [table, function]
            var catalog = SchemaCatalog(
                schemas: [ExactText(name), "s"], serverVersion: 15,
                objects: [
                    CatalogObject(table, properties: [("column order", PlainName.quoted(name))]),
                    CatalogObject(function), CatalogObject(privileges), column,
                ])
            catalog.systems = [table: "a"]
            let text = SchemaSnapshot.text(of: catalog, notes: [("digest", "abc")])
            let (again, notes) = try SchemaSnapshot.parse(text, file: "f")
            #expect(again.sorted == catalog.sorted && notes == ["digest": "abc"], "\(name.debugDescription)")
            #expect(again.sorted.map(\.dependencies) == catalog.sorted.map(\.dependencies))
            #expect(again.schemas == catalog.schemas && SchemaSnapshot.schemas(in: text) == catalog.schemas)
        }
    }

    @Test func aSnapshotThatCountsTooManyLinesIsRefused() {
        for count in ["9223372036854775807", "9223372036854775808", "-1"] {
            let text = "server: 150000\nschemas: s\n\ntable s.t\n  comment: |\(count)\n    x\n"
            #expect(throws: SnapshotError.self) { try SchemaSnapshot.parse(text, file: "f") }
        }
    }
}

@Suite struct RangeBoundTests {
    @Test(arguments: [
        ("FROM ('2024-01-01') TO ('2024-02-01')", "FROM ('2024-02-01') TO ('2024-03-01')", true),
        ("FROM ('2024-01-01') TO ('2024-02-02')", "FROM ('2024-02-01') TO ('2024-03-01')", false),
        ("FROM (MINVALUE) TO (9)", "FROM (10) TO (20)", true), ("FROM (5) TO (10)", "FROM (9) TO (20)", false),
        ("FROM ('-20') TO ('-10')", "FROM ('-10') TO (0)", true), ("FROM (1) TO (MAXVALUE)", "FROM (5) TO (6)", false),
        (
            "FROM ('2024-01-01 00:00:00+00') TO ('2024-01-02 00:00:00+00')",
            "FROM ('2024-01-02 00:00:00.5+00') TO ('2024-01-03 00:00:00+00')", true
        ),
        ("FROM (1, 'b') TO (1, 'c')", "FROM (2, 'a') TO (3, 'a')", true),
        // The server knows the order of texts; this program does not.
        ("FROM ('a') TO ('b')", "FROM ('c') TO ('d')", false),
        ("FROM (1, 'a') TO (1, 'b')", "FROM (1, 'c') TO (2, 'a')", false),
        ("FROM ('0044-03-15 BC') TO ('2024-01-01')", "FROM ('2024-01-01') TO ('10000-01-01')", true),
    ])
    func aRangeEndsBeforeAnother(_ one: String, _ other: String, _ isBefore: Bool) throws {
        let (left, right) = (RangeBound("FOR VALUES \(one)"), RangeBound("FOR VALUES \(other)"))
        #expect(try #require(left).endsBefore(#require(right)) == isBefore)
    }

    @Test(arguments: ["DEFAULT", "FOR VALUES IN ('a')", "FOR VALUES WITH (modulus 2, remainder 0)"])
    func otherBoundsAreNoRanges(_ bound: String) { #expect(RangeBound(bound) == nil) }
}

@Suite struct DataLossTests {
    @Test(arguments: [
        ("integer", "bigint", true), ("bigint", "smallint", true), ("integer", "numeric", true),
        ("integer", "numeric(5,2)", true), ("numeric(5,0)", "integer", true), ("numeric(5,2)", "integer", false),
        ("numeric", "integer", false), ("numeric(5,2)", "numeric(9,4)", true), ("numeric(5,2)", "numeric(9,1)", false),
        ("numeric", "numeric(9,1)", false), ("numeric(9,1)", "numeric", true), ("integer", "real", false),
        ("integer", "double precision", true), ("double precision", "real", false), ("real", "double precision", true),
        ("character varying(5)", "character varying(6)", true), ("character varying(6)", "character varying(5)", false),
        ("character varying", "character varying(5)", false), ("character varying(5)", "text", true),
        ("text", "character varying(500)", false), ("text", "character varying", true), ("uuid", "text", true),
        ("text", "integer", false), ("text", "jsonb", false), ("json", "jsonb", false), ("text", "name", false),
        ("date", "timestamp without time zone", true), ("timestamp without time zone", "date", false),
        ("timestamp with time zone", "timestamp without time zone", false),
        ("timestamp(3) with time zone", "timestamp with time zone", true),
        ("timestamp with time zone", "timestamp(3) with time zone", false), ("text[]", "character varying(3)[]", false),
        ("integer", "numeric(5,-2)", false), ("integer", "numeric(5,0)", true),
        ("zoo.a", "zoo.b", false), ("zoo.a", "text", true), ("\"odd type\"", "\"odd type\"", true),
    ])
    func aConversionKeepsEveryValueOrIsRefused(_ old: String, _ new: String, _ isLossless: Bool) {
        #expect(DataLoss.isLossless(from: old, to: new) == isLossless, "\(old) to \(new)")
    }
}

/// What constraints of PostgreSQL 18 have, without such a server.
@Suite struct NewerConstraintTests {
    private func constraint(_ properties: [(String, String)], _ name: String = "k") -> CatalogObject {
        CatalogObject(ObjectIdentity(.constraint, schema: "s", parent: "t", name), properties: properties)
    }

    private static let foreignKey = [
        ("type", "foreign key"), ("columns", "a, during"), ("references", "s.u"), ("referenced columns", "id, valid"),
    ]

    @Test(arguments: [
        ([("type", "check"), ("expression", "a > 0"), ("not enforced", "yes")], "CHECK (a > 0) NOT ENFORCED"),
        // A constraint that is not enforced is not valid either. It cannot be created with both words.
        (
            [("type", "check"), ("expression", "a > 0"), ("not enforced", "yes"), ("not valid", "yes")],
            "CHECK (a > 0) NOT ENFORCED"
        ),
        ([("type", "check"), ("expression", "a > 0"), ("not valid", "yes")], "CHECK (a > 0) NOT VALID"),
        (
            foreignKey + [("not enforced", "yes")],
            "FOREIGN KEY (a, during) REFERENCES s.u (id, valid) NOT ENFORCED"
        ),
        (
            foreignKey + [("temporal", "yes")],
            "FOREIGN KEY (a, PERIOD during) REFERENCES s.u (id, PERIOD valid)"
        ),
        (
            [("type", "primary key"), ("columns", "a, during"), ("temporal", "yes")],
            "PRIMARY KEY (a, during WITHOUT OVERLAPS)"
        ),
        (
            [("type", "unique"), ("columns", "a, during"), ("temporal", "yes"), ("include", "b")],
            "UNIQUE (a, during WITHOUT OVERLAPS) INCLUDE (b)"
        ),
    ])
    func constraintsAreWrittenWithAllTheirWords(_ properties: [(String, String)], _ sql: String) {
        #expect(
            LeafDefinition(object: constraint(properties)).constraint == ["ALTER TABLE s.t ADD CONSTRAINT k \(sql)"])
    }

    /// The rows of a trial need not fulfil them.
    @Test func constraintsThatAreNotEnforcedDoNotCountInATrial() {
        let table = ObjectIdentity(.table, schema: "s", "t")
        let maker = RowMaker(
            catalog: SchemaCatalog(schemas: ["s"], serverVersion: 18),
            parts: [
                table: [
                    constraint([("type", "check"), ("expression", "a > 0")], "one"),
                    constraint([("type", "check"), ("expression", "a > 1"), ("not enforced", "yes")], "two"),
                    constraint(Self.foreignKey, "three"),
                    constraint(Self.foreignKey + [("not enforced", "yes")], "four"),
                ]
            ], untouched: [], unread: [], evaluation: OwnersEvaluation())
        #expect(maker.constraints(of: table, "check", "foreign key").map(\.identity.name) == ["one", "three"])
    }
}
