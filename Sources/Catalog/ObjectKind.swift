/// The kind of a database object.
///
/// The order of the cases is the order in which objects are listed. It is also the order in which objects are created,
/// unless dependencies require another.
public enum ObjectKind: UInt8, Sendable, CaseIterable, Comparable {
    case schema
    case `extension`
    case collation
    case enumType
    case domain
    case domainConstraint
    case compositeType
    case rangeType
    case textSearchDictionary
    case textSearchConfiguration
    case foreignDataWrapper
    case foreignServer
    case userMapping
    case sequence
    case function
    case procedure
    case aggregate
    case operation
    case cast
    case table
    case foreignTable
    case column
    case constraint
    case index
    case view
    case materializedView
    case rule
    case trigger
    case policy
    case statistics
    case eventTrigger
    case publication
    case subscription
    case defaultPrivileges
    /// The privileges on a member of an extension.
    case extensionMember

    /// PostgreSQL's name for the kind.
    public var name: String {
        switch self {
        case .schema: "schema"
        case .extension: "extension"
        case .collation: "collation"
        case .enumType: "enum"
        case .domain: "domain"
        case .domainConstraint: "domain constraint"
        case .compositeType: "composite type"
        case .rangeType: "range type"
        case .textSearchDictionary: "text search dictionary"
        case .textSearchConfiguration: "text search configuration"
        case .foreignDataWrapper: "foreign-data wrapper"
        case .foreignServer: "foreign server"
        case .userMapping: "user mapping"
        case .sequence: "sequence"
        case .function: "function"
        case .procedure: "procedure"
        case .aggregate: "aggregate"
        case .operation: "operator"
        case .cast: "cast"
        case .table: "table"
        case .foreignTable: "foreign table"
        case .column: "column"
        case .constraint: "constraint"
        case .index: "index"
        case .view: "view"
        case .materializedView: "materialized view"
        case .rule: "rule"
        case .trigger: "trigger"
        case .policy: "policy"
        case .statistics: "statistics"
        case .eventTrigger: "event trigger"
        case .publication: "publication"
        case .subscription: "subscription"
        case .defaultPrivileges: "default privileges"
        case .extensionMember: "extension member"
        }
    }

    private static let byName = Dictionary(uniqueKeysWithValues: allCases.map { ($0.name, $0) })

    public init?(name: String) {
        guard let kind = Self.byName[name] else { return nil }
        self = kind
    }

    public static func < (left: ObjectKind, right: ObjectKind) -> Bool { left.rawValue < right.rawValue }

    // MARK: Properties of a kind

    /// A group of kinds with common properties. Each kind is in exactly one family; the compiler requires a family for
    /// a new kind.
    private enum Family {
        /// Objects outside schemas.
        case ofDatabase
        case type
        case routine
        /// Relations that store rows.
        case table
        case view
        case sequence
        /// Parts of a relation or domain. They are dropped together with the relation or domain.
        case part
        case other
    }

    private var family: Family {
        switch self {
        case .schema, .extension, .foreignDataWrapper, .foreignServer, .userMapping, .cast, .eventTrigger, .publication,
            .subscription, .extensionMember:
            .ofDatabase
        case .enumType, .domain, .compositeType, .rangeType: .type
        case .function, .procedure, .aggregate: .routine
        case .table, .foreignTable: .table
        case .view, .materializedView: .view
        case .sequence: .sequence
        case .column, .constraint, .index, .rule, .trigger, .policy, .domainConstraint: .part
        case .collation, .textSearchDictionary, .textSearchConfiguration, .operation, .statistics, .defaultPrivileges:
            .other
        }
    }

    /// Whether objects of this kind are tables or foreign tables.
    var isTable: Bool { family == .table }

    /// Whether objects of this kind are relations that can have columns.
    var isRelation: Bool { isTable || family == .view }

    /// Whether objects of this kind share the namespace of tables in a schema.
    var isInRelationNamespace: Bool {
        isRelation || family == .sequence || self == .index || self == .compositeType
    }

    /// Whether objects of this kind share the namespace of types in a schema. A table or view has a type for its rows.
    var isInTypeNamespace: Bool { isType || isRelation }

    var isRoutine: Bool { family == .routine }

    var isType: Bool { family == .type }

    /// Whether objects of this kind are parts of a relation or domain, and are dropped together with it.
    var hasParent: Bool { family == .part }

    /// Whether objects of this kind are outside schemas.
    var isOfDatabase: Bool { family == .ofDatabase }

    /// Whether the name of an object of this kind is followed by a signature in parentheses.
    var hasSignature: Bool {
        isRoutine || [.operation, .defaultPrivileges, .userMapping, .extensionMember].contains(self)
    }

    /// Whether objects of this kind store no data of their own and have few or no dependent objects, so that they can
    /// be dropped first.
    var isLeaf: Bool {
        switch self {
        case .constraint, .index, .trigger, .rule, .policy, .statistics, .view, .materializedView, .eventTrigger,
            .publication, .cast, .userMapping:
            true
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .sequence, .function,
            .procedure, .aggregate, .operation, .table, .foreignTable, .column, .subscription, .defaultPrivileges,
            .extensionMember:
            false
        }
    }
}
