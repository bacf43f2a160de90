import Postgres

/// Which object: its kind and its name with all that makes it the only one.
public struct ObjectIdentity: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let kind: ObjectKind
    /// nil for what a database has outside its schemas.
    public let schema: String?
    /// The relation or domain that it belongs to.
    public let parent: String?
    public let name: String
    /// The types of a routine's arguments; the role of default privileges. In quotes where SQL wants them.
    public let signature: String?

    public init(
        _ kind: ObjectKind, schema: String? = nil, parent: String? = nil, _ name: String, signature: String? = nil
    ) {
        self.kind = kind
        self.schema = schema
        self.parent = parent
        self.name = name
        self.signature = signature
    }

    private var exact: [ExactText?] { [schema, parent, name, signature].map { $0.map(ExactText.init) } }

    public static func == (left: ObjectIdentity, right: ObjectIdentity) -> Bool {
        left.kind == right.kind && left.exact == right.exact
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        // Equal names have equal hashes; those that only look equal may have them too.
        hasher.combine(schema)
        hasher.combine(parent)
        hasher.combine(name)
        hasher.combine(signature)
    }

    /// The name with its schema, quoted where SQL wants it: `posters.jobs.status`, `posters.claim(integer)`.
    public var description: String { path + (signature.map { "(\($0))" } ?? "") }

    /// The same without the arguments.
    public var path: String {
        ([schema, parent, name] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
    }

    var nameParts: [ExactText] { [schema, parent, name].compactMap { $0.map(ExactText.init) } }

    /// The name within its schema, or within its relation.
    var quotedName: String { PlainName.quoted(name) }

    /// The relation or domain that it belongs to, as SQL names it.
    var quotedParent: String {
        ([schema, parent] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
    }

    /// The schema that decides to which system it belongs: its own, or itself.
    public var owningSchema: String? { kind == .schema ? name : schema }

    /// By schema, then by kind; what belongs to a relation comes after it.
    public static func < (left: ObjectIdentity, right: ObjectIdentity) -> Bool {
        let (one, two) = (left.owningSchema ?? "", right.owningSchema ?? "")
        if !ExactText.same(one, two) { return ExactText.precedes(one, two) }
        if left.listRank != right.listRank { return left.listRank < right.listRank }
        let (first, second) = (left.parent ?? left.name, right.parent ?? right.name)
        if !ExactText.same(first, second) { return ExactText.precedes(first, second) }
        if left.kind != right.kind { return left.kind < right.kind }
        if !ExactText.same(left.name, right.name) { return ExactText.precedes(left.name, right.name) }
        return ExactText.precedes(left.signature ?? "", right.signature ?? "")
    }

    private var listRank: Int {
        if kind == .domainConstraint { return Int(ObjectKind.domain.rawValue) }
        return kind.hasParent || kind.isRelation ? Int(ObjectKind.table.rawValue) : Int(kind.rawValue)
    }
}
