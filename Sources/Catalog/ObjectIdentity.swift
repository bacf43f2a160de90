import Postgres
import SQL

/// The identity of an object: its kind, and the names that make it unique in its database.
public struct ObjectIdentity: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let kind: ObjectKind
    /// The schema; nil for objects outside schemas.
    public let schema: String?
    /// The name of the relation or domain that the object is a part of; nil for other objects.
    public let parent: String?
    public let name: String
    /// The argument types of a routine or operator, the role of default privileges or of a user mapping, or the member
    /// of an extension, quoted as in SQL if necessary.
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
        // Names that are equal byte for byte have equal hashes. Names that differ but are canonically equivalent in
        // Unicode may have equal hashes, too.
        hasher.combine(schema)
        hasher.combine(parent)
        hasher.combine(name)
        hasher.combine(signature)
    }

    /// The name with its schema, quoted as in SQL if necessary: `posters.jobs.status`, `posters.claim(integer)`.
    public var description: String { path + (signature.map { "(\($0))" } ?? "") }

    /// The same as `description`, without the arguments.
    public var path: String {
        ([schema, parent, name] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
    }

    var nameParts: [ExactText] { [schema, parent, name].compactMap { $0.map(ExactText.init) } }

    /// The name without its schema and its relation, quoted if necessary.
    var quotedName: String { PlainName.quoted(name) }

    /// The relation or domain that the object is a part of, in SQL: the schema and the name, quoted if necessary.
    var quotedParent: String {
        ([schema, parent] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
    }

    /// The schema that determines the system of the object: the object's schema, or the object itself if it is a
    /// schema.
    public var owningSchema: String? { kind == .schema ? name : schema }

    /// Orders by schema, then by kind. The parts of a relation follow the relation.
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
