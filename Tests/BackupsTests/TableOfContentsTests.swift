import TestSupport
import Testing

@testable import Backups

/// What pg_restore lists is read by its places.
struct TableOfContentsTests {
    /// Types with the catalogs that their objects are in, as `pg_restore -l` shows them.
    private static let types: [(name: String, catalog: Int)] = [
        ("TABLE", 1259), ("TABLE DATA", 0), ("TABLE ATTACH", 0), ("INDEX", 1259), ("INDEX ATTACH", 0),
        ("SEQUENCE", 1259), ("SEQUENCE SET", 0), ("SEQUENCE OWNED BY", 0), ("MATERIALIZED VIEW", 1259),
        ("MATERIALIZED VIEW DATA", 0), ("STATISTICS", 3381), ("STATISTICS DATA", 0), ("DEFAULT", 2604),
        ("DEFAULT ACL", 826), ("OPERATOR", 2617), ("OPERATOR CLASS", 2616), ("OPERATOR FAMILY", 2753),
        ("CONSTRAINT", 2606), ("CHECK CONSTRAINT", 2606), ("FK CONSTRAINT", 2606), ("TRIGGER", 2620),
        ("EVENT TRIGGER", 3466), ("RULE", 2618), ("POLICY", 3256), ("ROW SECURITY", 0), ("PUBLICATION", 6104),
        ("PUBLICATION TABLE", 6106), ("PUBLICATION TABLES IN SCHEMA", 6237), ("SUBSCRIPTION", 6100),
        ("COMMENT", 0), ("SECURITY LABEL", 0), ("ACL", 0), ("FUNCTION", 1255), ("SCHEMA", 2615), ("VIEW", 1259),
    ]
    private static let withoutSchema: Set = ["EVENT TRIGGER", "PUBLICATION", "SUBSCRIPTION", "SCHEMA"]

    /// As pg_dump writes a name into a line.
    private static func shown(_ name: String) -> String {
        String(decoding: name.utf8.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }, as: UTF8.self)
    }

    private static func name(_ generator: inout SeededGenerator) -> String {
        if Int.random(in: 0..<3, using: &generator) == 0 { return HostileNames.name(&generator) }
        let words =
            types.flatMap { $0.name.split(separator: " ").map(String.init) } + ["-", ";", "1;", "0", "\n", "  "]
        return (0..<Int.random(in: 1...5, using: &generator)).map { _ in
            words.randomElement(using: &generator) ?? "x"
        }.joined(separator: " ")
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `a type is what stands at its place, whatever the names are`(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        var lines = [";", "; Archive created at 2026-01-01", ";     dbname: a EVENT TRIGGER b", ";\tdepends on: 7"]
        var expected: [TableOfContents.Entry] = []
        for id in 1...2000 {
            let type = Self.types.randomElement(using: &generator) ?? ("TABLE", 1259)
            let schema = Self.withoutSchema.contains(type.name) ? "-" : Self.shown(Self.name(&generator))
            let names = "\(schema) \(Self.shown(Self.name(&generator))) \(Self.shown(Self.name(&generator)))"
            lines.append("\(id); \(type.catalog) \(id + 16384) \(type.name) \(names)")
            let others = id.isMultiple(of: 3) ? [id - 1, id - 2] : []
            if !others.isEmpty { lines.append(";\tdepends on: \(others[0]) \(others[1])") }
            expected.append(
                TableOfContents.Entry(
                    id: id, type: type.name, dependencies: others,
                    object: DatabaseObject(catalog: type.catalog, id: id + 16384)))
        }
        let contents = try TableOfContents(Array((lines.joined(separator: "\n") + "\n").utf8))
        let wrong = zip(contents.entries, expected).filter { $0 != $1 }
        #expect(contents.entries.count == expected.count && wrong.isEmpty, "\(wrong.prefix(3))")
        #expect(contents.list == Array((1...2000).map { "\($0);\n" }.joined().utf8))
    }

    @Test func `comments go with what they are about, by their numbers and not by their names`() throws {
        let listing = """
            1; 2606 10 FK CONSTRAINT public a EVENT TRIGGER b owner
            2; 0 0 COMMENT - EVENT TRIGGER x TABLE t owner
            ;\tdepends on: 1
            3; 3466 11 EVENT TRIGGER - x owner
            4; 0 0 COMMENT - EVENT TRIGGER x owner
            ;\tdepends on: 3
            5; 0 0 SECURITY LABEL - EVENT TRIGGER x owner
            ;\tdepends on: 3
            6; 1259 12 INDEX public i owner
            ;\tdepends on: 3
            7; 99 1 NEW KIND - EVENT TRIGGER owner
            """
        let contents = try TableOfContents(Array(listing.utf8))
        let triggers = contents.entries(of: ["EVENT TRIGGER"])
        #expect(triggers.entries.map(\.id) == [3, 4, 5])
        #expect(contents.without(triggers).entries.map(\.id) == [1, 2, 6, 7])
        #expect(contents.entries(of: ["FK CONSTRAINT"]).entries.map(\.id) == [1, 2])
        #expect(contents.entries.last?.type == nil)
    }

    @Test(arguments: [
        "x", "1 2 3 TABLE - a b", "1; 2 TABLE - a b", "-1; 2 3 TABLE - a b", "99999999999999999999; 2 3 TABLE",
    ])
    func `a line that is no entry is refused`(line: String) {
        #expect(throws: TableOfContents.Malformed.self) { try TableOfContents(Array(line.utf8)) }
    }
}
