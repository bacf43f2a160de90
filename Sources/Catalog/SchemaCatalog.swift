import Postgres

/// An object of a schema as values: named properties, each as text in PostgreSQL's own spelling.
///
/// A property that has its default is absent, so that a catalog read from a newer server, which knows more
/// properties, is equal to one from an older server.
public struct CatalogObject: Sendable, Equatable {
    public let identity: ObjectIdentity
    /// In the order of their names.
    public private(set) var properties: [(name: String, value: String)]
    /// The objects that it needs to exist, as `pg_depend` knows them; empty unless they were asked for.
    public var dependencies: [ObjectIdentity] = []

    public init(_ identity: ObjectIdentity, properties: [(name: String, value: String)] = []) {
        self.identity = identity
        self.properties = properties.sorted { ExactText.precedes($0.name, $1.name) }
    }

    public subscript(name: String) -> String? {
        get { properties.first { ExactText.same($0.name, name) }?.value }
        set {
            properties.removeAll { ExactText.same($0.name, name) }
            guard let newValue else { return }
            let index = properties.firstIndex { ExactText.precedes(name, $0.name) } ?? properties.endIndex
            properties.insert((name, newValue), at: index)
        }
    }

    public static func == (left: CatalogObject, right: CatalogObject) -> Bool {
        left.identity == right.identity
            && left.properties.elementsEqual(right.properties) { one, other in
                ExactText.same(one.name, other.name) && ExactText.same(one.value, other.value)
            }
    }

    /// What it goes with, where its own name does not tell: the column of a sequence, the table of statistics.
    var containerPath: String? {
        switch identity.kind {
        case .statistics: self["table"]
        case .sequence: self["identity of"] ?? self["owned by"]
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignServer, .function, .procedure, .aggregate,
            .operation, .cast, .table, .foreignTable, .column, .constraint, .index, .view, .materializedView, .rule,
            .trigger, .policy, .eventTrigger, .publication, .defaultPrivileges:
            nil
        }
    }
}

/// Schemas of one database, or what they ought to be, as values.
public struct SchemaCatalog: Sendable {
    public private(set) var objects: [ObjectIdentity: CatalogObject] = [:]
    /// The schemas that were looked at.
    public var schemas: Set<ExactText>
    /// The server's major version.
    public var serverVersion: Int
    /// The system to which a schema, or an object outside schemas, belongs.
    public var systems: [ObjectIdentity: String] = [:]
    /// Kinds of objects in the schemas that are not held, with how many there are.
    public var unsupportedKinds: [String] = []
    /// By their names without quotes.
    private var containers: [[ExactText]: ObjectIdentity] = [:]

    public init(schemas: Set<ExactText>, serverVersion: Int, objects: [CatalogObject] = []) {
        self.schemas = schemas
        self.serverVersion = serverVersion
        self.objects.reserveCapacity(objects.count)
        for object in objects { self[object.identity] = object }
    }

    public subscript(identity: ObjectIdentity) -> CatalogObject? {
        get { objects[identity] }
        set {
            objects[identity] = newValue
            let kind = identity.kind
            if kind.isRelation || kind == .domain || kind == .column || kind == .compositeType {
                containers[identity.nameParts] = newValue == nil ? nil : identity
            }
        }
    }

    /// All objects in their order.
    public var sorted: [CatalogObject] { objects.values.sorted { $0.identity < $1.identity } }

    /// The relation, domain or column with this path.
    func object(at path: String) -> ObjectIdentity? { containers[QualifiedName.parts(path[...]).map(ExactText.init)] }

    /// The object without which this one is not.
    func container(of object: CatalogObject) -> ObjectIdentity? {
        if object.identity.kind.hasParent {
            return containers[[object.identity.schema, object.identity.parent].compactMap { $0.map(ExactText.init) }]
        }
        return object.containerPath.flatMap { self.object(at: $0) }
    }

    /// The object, or one without properties where it is a column of which nothing is to be said: such columns of views
    /// and composite types are not held.
    func objectOrImplicitColumn(_ identity: ObjectIdentity) -> CatalogObject? {
        if let object = objects[identity] { return object }
        guard identity.kind == .column, let owner = self.object(at: identity.quotedParent), !owner.kind.isTable else {
            return nil
        }
        return CatalogObject(identity)
    }

    /// The system that an object belongs to; nil where none is known.
    public func system(of identity: ObjectIdentity) -> String? {
        if let own = systems[identity] { return own }
        return identity.owningSchema.flatMap { systems[ObjectIdentity(.schema, $0)] }
    }

    /// Takes in all that another one holds.
    public mutating func add(_ other: SchemaCatalog) {
        for object in other.objects.values { self[object.identity] = object }
        schemas.formUnion(other.schemas)
        systems.merge(other.systems) { own, _ in own }
        unsupportedKinds += other.unsupportedKinds
    }

    /// The same without the objects that `isWanted` refuses.
    public func filtered(_ isWanted: (ObjectIdentity) -> Bool) -> SchemaCatalog {
        var result = SchemaCatalog(schemas: schemas, serverVersion: serverVersion)
        result.systems = systems
        result.unsupportedKinds = unsupportedKinds
        for (identity, object) in objects where isWanted(identity) { result[identity] = object }
        return result
    }
}
