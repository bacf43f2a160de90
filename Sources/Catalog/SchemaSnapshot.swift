import Postgres
import Reporting
import SQL

/// A catalog as text, for version control, reviews and comparisons. Objects and properties always have the same order
/// and spelling.
///
///     reeve schema snapshot 1
///     server: 15
///     schemas: posters
///
///     table posters.jobs
///       @system: posters
///       column order: id, status
///
///     column posters.jobs.id
///       type: bigint
///
/// A value of several lines begins with `|` and the number of lines. If a line with the title of an object, the name of
/// a property or a list of names ends within a quote, the text continues on the next line. Lines that begin with `@`
/// are not properties: `@system` is the system of an object, `@needs` lists its dependencies.
public enum SchemaSnapshot {
    static let title = "reeve schema snapshot 1"

    /// - Parameters:
    ///   - catalog: a catalog as it was read, with dependencies if the snapshot is to be used for mending.
    ///   - notes: lines of the header, as `name: value`.
    public static func text(of catalog: SchemaCatalog, notes: [(name: String, value: String)] = []) -> String {
        var text = title + "\nserver: \(catalog.serverVersion)\n"
        text += "schemas: " + catalog.schemas.sorted().map { PlainName.quoted($0.text) }.joined(separator: ", ") + "\n"
        for note in notes { text += "\(note.name): \(note.value)\n" }
        for object in catalog.sorted { text += "\n" + paragraph(object, of: catalog) { $0 } }
        return text
    }

    /// Returns the objects in the form of a snapshot, for display only: each name and each line of a value is on one
    /// line, and control characters are made visible.
    public static func shown(_ catalog: SchemaCatalog) -> String {
        catalog.sorted.map { paragraph($0, of: catalog) { visible($0) } }.joined(separator: "\n")
    }

    private static func paragraph(
        _ object: CatalogObject, of catalog: SchemaCatalog, spelled: (String) -> String
    ) -> String {
        var text = spelled("\(object.identity.kind.name) \(object.identity)") + "\n"
        if let system = catalog.systems[object.identity] { write("@system", system, to: &text, spelled) }
        for (name, value) in object.properties { write(spelled(name), value, to: &text, spelled) }
        if !object.dependencies.isEmpty {
            let needs = object.dependencies.map { spelled("\($0.kind.name) \($0)") }
            write("@needs", needs.joined(separator: "\n"), to: &text, spelled)
        }
        return text
    }

    private static func write(
        _ name: String, _ value: String, to text: inout String, _ spelled: (String) -> String
    ) {
        let isPlain =
            !value.isEmpty && !value.utf8.contains(UInt8(ascii: "\n")) && !value.utf8.contains(UInt8(ascii: "\r"))
            && value.utf8.first != UInt8(ascii: " ") && value.utf8.last != UInt8(ascii: " ")
            && value.utf8.first != UInt8(ascii: "|")
        if isPlain {
            text += "  \(name): \(spelled(value))\n"
            return
        }
        let lines = value.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map {
            spelled(String(Substring($0)))
        }
        text += "  \(name): |\(lines.count)\n"
        for line in lines { text += line.isEmpty ? "\n" : "    \(line)\n" }
    }

    /// Returns the schemas in the header of a snapshot; nil if the header is invalid.
    public static func schemas(in text: String) -> Set<ExactText>? {
        var parser = SnapshotParser(text: text, file: "")
        return (try? parser.head())?.schemas
    }

    /// Parses a snapshot.
    ///
    /// - Parameter file: the name of the file, for errors.
    /// - Throws: `SnapshotError` with the line number.
    public static func parse(_ text: String, file: String) throws -> (catalog: SchemaCatalog, notes: [String: String]) {
        var parser = SnapshotParser(text: text, file: file)
        return try parser.parse()
    }
}

/// An error about a text that is not a snapshot or is incomplete.
public struct SnapshotError: Error, CustomStringConvertible {
    public let file: String
    public let line: Int
    public let message: String

    public var description: String { "\(file):\(line): \(message)" }
    public var hint: String { "recreate it with 'reeve schema snapshot'" }
}

extension SnapshotError: ReportedError {
    public static let codes = [ErrorCode("snapshot", [.usage], "A schema snapshot cannot be read.")]

    public var report: ErrorReport { ErrorReport(description, code: "snapshot", hint: hint, exitCode: .usage) }
}

struct SnapshotParser {
    private let lines: [Substring]
    private let file: String
    private var next = 0

    init(text: String, file: String) {
        var rest = text.utf8[...]
        var lines: [Substring] = []
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            lines.append(Substring(rest[..<end]))
            rest = rest[rest.index(after: end)...]
        }
        if !rest.isEmpty { lines.append(Substring(rest)) }
        self.lines = lines
        self.file = file
    }

    private func error(_ message: String) -> SnapshotError {
        SnapshotError(file: file, line: max(1, min(next, lines.count)), message: message)
    }

    private mutating func line() -> Substring? {
        guard next < lines.count else { return nil }
        next += 1
        return lines[next - 1]
    }

    /// Returns a line. While the text ends within quotes, appends the next line, because a quoted name may contain line
    /// feeds.
    private mutating func lineOfNames() -> Substring? {
        guard let first = line() else { return nil }
        guard Self.endsWithinQuotes(first) else { return first }
        var whole = String(first)
        while Self.endsWithinQuotes(whole[...]), let more = line() { whole += "\n" + more }
        return whole[...]
    }

    private static func endsWithinQuotes(_ text: Substring) -> Bool {
        !text.utf8.count { $0 == UInt8(ascii: "\"") }.isMultiple(of: 2)
    }

    struct Head {
        var server: Int
        var schemas: Set<ExactText>
        var notes: [String: String]
    }

    mutating func head() throws -> Head {
        guard let first = line(), first == SchemaSnapshot.title else {
            throw error("the file does not begin with '\(SchemaSnapshot.title)'")
        }
        var notes: [String: String] = [:]
        while next < lines.count, let line = lines[next].utf8.starts(with: "schemas: ".utf8) ? lineOfNames() : line(),
            !line.isEmpty
        {
            let (name, value) = try field(line)
            notes[name] = value
        }
        guard let version = notes.removeValue(forKey: "server").flatMap({ Int($0) }) else {
            throw error("the header has no server version")
        }
        let schemas = QualifiedName.list(notes.removeValue(forKey: "schemas") ?? "").map(QualifiedName.unquoted)
        return Head(server: version, schemas: Set(schemas.map(ExactText.init)), notes: notes)
    }

    mutating func parse() throws -> (SchemaCatalog, [String: String]) {
        let head = try head()
        var objects: [CatalogObject] = []
        var systems: [ObjectIdentity: String] = [:]
        while let title = lineOfNames() {
            if title.isEmpty { continue }
            guard let identity = ObjectIdentity(String(title)) else {
                throw error("'\(title)' does not name an object")
            }
            let (object, system) = try properties(of: identity)
            if let system { systems[identity] = system }
            objects.append(object)
        }
        var catalog = SchemaCatalog(schemas: head.schemas, serverVersion: head.server, objects: objects)
        catalog.systems = systems
        return (catalog, head.notes)
    }

    private mutating func properties(of identity: ObjectIdentity) throws -> (CatalogObject, String?) {
        var properties: [(name: String, value: String)] = []
        var needs: [ObjectIdentity] = []
        var system: String?
        while next < lines.count, lines[next].utf8.first == UInt8(ascii: " ") {
            let (name, value) = try value(of: property())
            switch name {
            case "@system": system = value
            case "@needs":
                needs = try QualifiedName.lines(value).map {
                    guard let need = ObjectIdentity($0) else { throw error("'\($0)' does not name an object") }
                    return need
                }
            default: properties.append((name, value))
            }
        }
        var object = CatalogObject(identity, properties: properties)
        object.dependencies = needs
        return (object, system)
    }

    /// Parses a property. A quoted name of a property may contain line feeds.
    private mutating func property() throws -> (name: String, value: String) {
        var text = Substring(line()?.utf8.dropFirst(2) ?? ""[...].utf8)
        while Self.endOfName(in: text) == nil, Self.endsWithinQuotes(text), let more = line() { text += "\n" + more }
        return try field(text)
    }

    private func field(_ line: Substring) throws -> (name: String, value: String) {
        guard let end = Self.endOfName(in: line) else { throw error("'\(line)' is not of the form 'name: value'") }
        return (String(line[..<end]), String(Substring(line.utf8[end...].dropFirst(2))))
    }

    /// Returns the index of the colon that ends a name: the first colon outside quotes that precedes a space or the end
    /// of the line.
    private static func endOfName(in line: Substring) -> Substring.Index? {
        var isQuoted = false
        for index in line.utf8.indices {
            if line.utf8[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
            guard line.utf8[index] == UInt8(ascii: ":"), !isQuoted else { continue }
            let after = line.utf8.index(after: index)
            if after == line.utf8.endIndex || line.utf8[after] == UInt8(ascii: " ") { return index }
        }
        return nil
    }

    private mutating func value(of field: (name: String, value: String)) throws -> (String, String) {
        guard field.value.utf8.first == UInt8(ascii: "|") else { return field }
        guard let count = Int(Substring(field.value.utf8.dropFirst())), count > 0, count <= lines.count - next else {
            throw error("the file ends inside a value of several lines")
        }
        let block = lines[next..<next + count].map {
            $0.utf8.starts(with: "    ".utf8) ? Substring($0.utf8.dropFirst(4)) : $0
        }
        next += count
        return (field.name, block.joined(separator: "\n"))
    }
}

extension ObjectIdentity {
    /// Parses `kind schema.name` as snapshots write it; returns nil if the line is invalid.
    init?(_ line: String) {
        guard let (kind, rest) = Self.kind(of: line) else { return nil }
        var path = rest
        var signature: String?
        if kind.hasSignature {
            guard let open = QualifiedName.firstOutsideQuotes("(", in: rest), rest.utf8.last == UInt8(ascii: ")") else {
                return nil
            }
            path = rest[..<open]
            signature = String(Substring(rest[open...].utf8.dropFirst().dropLast()))
        }
        var parts = QualifiedName.parts(path)
        guard let name = parts.popLast() else { return nil }
        let parent = kind.hasParent ? parts.popLast() : nil
        if kind.hasParent, parent == nil { return nil }
        let schema = parts.popLast()
        guard parts.isEmpty, (schema == nil) == kind.isOfDatabase || kind == .defaultPrivileges else { return nil }
        self.init(kind, schema: schema, parent: parent, name, signature: signature)
    }

    private static func kind(of line: String) -> (ObjectKind, Substring)? {
        var end = line.startIndex
        var found: (ObjectKind, Substring)?
        // Take the longest kind that matches; kinds have up to three words, like 'text search dictionary'.
        for _ in 0..<3 {
            guard let space = line.utf8[end...].firstIndex(of: UInt8(ascii: " ")) else { break }
            let after = line.utf8.index(after: space)
            if let kind = ObjectKind(name: String(line[..<space])) { found = (kind, line[after...]) }
            end = after
        }
        return found
    }
}
