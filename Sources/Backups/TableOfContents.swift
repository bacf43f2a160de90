/// The table of contents of an archive, as `pg_restore -l -v` prints it. Pure: no I/O.
///
///     3233; 2606 16400 FK CONSTRAINT public orders orders_customer_fkey owner
///     ;       depends on: 3227
///
/// The type of an entry has a fixed position. It is followed by names that the owners of the objects have chosen.
/// pg_dump replaces line feeds in these names with spaces, and changes nothing else. So the names are not used to find
/// the type.
struct TableOfContents: Sendable {
    struct Entry: Sendable, Equatable {
        /// The number of the entry in the archive.
        let id: Int
        /// The type, as pg_dump names it; nil for an unknown type.
        let type: String?
        /// The entries that must be restored before this one.
        fileprivate(set) var dependencies: [Int] = []
        /// The object in the database that was dumped; nil if the entry is not an object, such as a comment.
        fileprivate(set) var object: DatabaseObject?
    }

    struct Malformed: Error, CustomStringConvertible {
        let line: [UInt8]

        var description: String {
            "the table of contents has an invalid line: \(String(decoding: line, as: UTF8.self).debugDescription)"
        }
    }

    private(set) var entries: [Entry] = []
    /// What follows the type in the line of an entry: schema, name and owner. The key is the number of the entry.
    private var names: [Int: ArraySlice<UInt8>] = [:]

    init(entries: [Entry]) { self.entries = entries }

    /// - Throws: `Malformed` for a line that is neither an entry nor a comment.
    init(_ listing: [UInt8]) throws {
        for line in listing.split(separator: UInt8(ascii: "\n")) {
            if line.first != UInt8(ascii: ";") {
                let (entry, text) = try Self.entry(line)
                entries.append(entry)
                names[entry.id] = text
            } else if let last = entries.indices.last, line.starts(with: Self.dependsOn) {
                entries[last].dependencies = line.dropFirst(Self.dependsOn.count).split(separator: UInt8(ascii: " "))
                    .compactMap { Int(String(decoding: $0, as: UTF8.self)) }
            }
        }
    }

    private static let dependsOn = Array(";\tdepends on:".utf8)

    private static func entry(_ line: ArraySlice<UInt8>) throws -> (Entry, ArraySlice<UInt8>) {
        var rest = line
        func number(endedBy end: StaticString) throws -> Int {
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            let ending = Array("\(end)".utf8)
            rest = rest.dropFirst(digits.count)
            guard let value = Int(String(decoding: digits, as: UTF8.self)), rest.starts(with: ending) else {
                throw Malformed(line: Array(line))
            }
            rest = rest.dropFirst(ending.count)
            return value
        }
        let id = try number(endedBy: "; ")
        let catalog = try number(endedBy: " ")
        let object = try number(endedBy: " ")
        let type = types.first { type in
            rest.starts(with: type.bytes) && (type.catalog == nil || type.catalog == catalog)
        }
        var entry = Entry(id: id, type: type?.name)
        if object != 0 { entry.object = DatabaseObject(catalog: catalog, id: object) }
        return (entry, rest.dropFirst(type?.bytes.count ?? 0))
    }

    private struct Descriptor {
        let name: String
        /// The name of the type, and the space after the name.
        let bytes: [UInt8]
        /// The OID of the system catalog in which objects of this type are stored; 0: none. Set only if the name of the
        /// type begins with the name of another type, as TABLE DATA does with TABLE: in an entry of type TABLE, DATA
        /// could be the schema.
        let catalog: Int?
    }

    /// The types of entries that pg_dump writes. The type with the longest name is first.
    private static let types: [Descriptor] = {
        let alone = [
            "ACCESS METHOD", "ACL", "AGGREGATE", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "CAST",
            "CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT", "CONVERSION", "DATABASE",
            "DATABASE PROPERTIES", "DEFAULT", "DOMAIN", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FK CONSTRAINT",
            "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX", "LARGE OBJECT", "MATERIALIZED VIEW",
            "OPERATOR", "POLICY", "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "ROW SECURITY", "RULE", "SCHEMA",
            "SEARCHPATH", "SECURITY LABEL", "SEQUENCE", "SERVER", "SHELL TYPE", "STATISTICS", "STDSTRINGS",
            "SUBSCRIPTION", "TABLE", "TABLESPACE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
            "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TRIGGER", "TYPE", "USER MAPPING", "VIEW",
        ].map { Descriptor(name: $0, bytes: Array("\($0) ".utf8), catalog: nil) }
        let longer = [
            "DEFAULT ACL": 826, "INDEX ATTACH": 0, "MATERIALIZED VIEW DATA": 0, "OPERATOR CLASS": 2616,
            "OPERATOR FAMILY": 2753, "PUBLICATION TABLE": 6106, "PUBLICATION TABLES IN SCHEMA": 6237,
            "SEQUENCE OWNED BY": 0, "SEQUENCE SET": 0, "STATISTICS DATA": 0, "SUBSCRIPTION TABLE": 6102,
            "TABLE ATTACH": 0, "TABLE DATA": 0,
        ].map { Descriptor(name: $0.key, bytes: Array("\($0.key) ".utf8), catalog: $0.value) }
        return (alone + longer).sorted { $0.bytes.count > $1.bytes.count }
    }()

    // MARK: Owners

    /// Returns the owner of an entry: the role with the longest name that the entry's line ends with. Returns nil if
    /// the line ends with none of these roles, and for an entry without an owner, whose line ends with a space.
    func owner(of entry: Entry, among roles: [String]) -> String? {
        guard let text = names[entry.id] else { return nil }
        return roles.filter { role in
            // The role's name as pg_dump writes it, with spaces for line feeds and carriage returns.
            let ending = [UInt8(ascii: " ")] + role.utf8.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }
            return text.reversed().starts(with: ending.reversed())
        }.max { $0.utf8.count < $1.utf8.count }
    }

    /// The schema, name and owner of an entry, for people.
    func names(of entry: Entry) -> String { String(decoding: names[entry.id] ?? [], as: UTF8.self) }

    // MARK: Selection

    /// Returns the entries of some types, with the comments and security labels on them.
    func entries(of types: Set<String>) -> TableOfContents {
        var ids: Set<Int> = []
        return only(
            entries.filter { entry in
                let isOne =
                    entry.type.map(types.contains) == true
                    || Self.notes.contains(entry.type ?? "") && !ids.isDisjoint(with: entry.dependencies)
                if isOne { ids.insert(entry.id) }
                return isOne
            })
    }

    /// Returns the entries of some objects, with the comments, security labels and privileges on them.
    func entries(of objects: Set<DatabaseObject>) -> TableOfContents {
        var ids: Set<Int> = []
        return TableOfContents(
            entries: entries.filter { entry in
                let isOne =
                    entry.object.map(objects.contains) == true
                    || Self.notes.union(["ACL"]).contains(entry.type ?? "") && !ids.isDisjoint(with: entry.dependencies)
                if isOne { ids.insert(entry.id) }
                return isOne
            })
    }

    /// The types of entries that describe another entry.
    private static let notes: Set<String> = ["COMMENT", "SECURITY LABEL"]

    /// Returns all entries that are not in `others`.
    func without(_ others: TableOfContents) -> TableOfContents {
        let left = Set(others.entries.map(\.id))
        return only(entries.filter { !left.contains($0.id) })
    }

    private func only(_ entries: [Entry]) -> TableOfContents {
        var result = self
        result.entries = entries
        return result
    }

    /// The entries in the format of `pg_restore -L`.
    var list: [UInt8] { Array(entries.map { "\($0.id);\n" }.joined().utf8) }
}
