import Kernel
import Reporting

/// A kind of change that triggers announce. The raw value is the event's bit in `pg_trigger.tgtype`.
enum ChangeEvent: Int, Sendable, CaseIterable {
    case insert = 4
    case delete = 8
    case update = 16

    var word: String { "\(self)" }
}

/// How a system announces changes to subscribers.
struct Realtime: Sendable, Equatable {
    /// The tables whose triggers notify a channel, by channel, each with the events that must be announced. Without
    /// events, any trigger will do.
    var channels: [String: [String: [ChangeEvent]]] = [:]
    /// The tables that belong to a publication, by publication.
    var publications: [String: [String]] = [:]
}

/// The key `realtime` in a `system.yaml`.
enum RealtimeSection {
    static let section = SystemSection<Realtime>(
        "realtime",
        "How subscribers hear of changes: `channels`, a map of channels of NOTIFY to the tables whose triggers notify "
            + "them, and `publications`, a map of publications to their tables. A map of tables to events (`insert`, "
            + "`update`, `delete`) says what each must announce. The tables are in the system's schema.",
        example: "realtime: {channels: {order_updates: {orders: [insert, update]}}, publications: {live: [orders]}}",
        read: read)

    static func read(_ node: YAMLNode, _ file: String) throws -> Realtime {
        let known = ["channels", "publications"]
        guard case .mapping(let entries, _) = node else {
            throw ConfigurationError(
                file, node.line, "'realtime' must be a map with \(known.joined(separator: " and "))")
        }
        var realtime = Realtime()
        for entry in entries {
            switch entry.key {
            case "channels":
                realtime.channels = try names(of: entry.value, entry.key, file) { try announced(by: $0, $1, file) }
            case "publications":
                realtime.publications = try names(of: entry.value, entry.key, file) { try $0.words($1, file) }
            default:
                throw ConfigurationError(
                    file, entry.keyLine, "unknown key 'realtime.\(entry.key)'",
                    hint: didYouMean(entry.key, among: known) ?? "write \(known.joined(separator: " or "))")
            }
        }
        return realtime
    }

    private static func names<Value>(
        of node: YAMLNode, _ key: String, _ file: String, _ read: (YAMLNode, String) throws -> Value
    ) throws -> [String: Value] {
        guard case .mapping(let entries, _) = node else {
            throw ConfigurationError(
                file, node.line, "'realtime.\(key)' must be a map of names, each with one table or a list of tables")
        }
        return try entries.reduce(into: [:]) { $0[$1.key] = try read($1.value, $1.key) }
    }

    /// The tables that announce changes, with their events.
    private static func announced(
        by node: YAMLNode, _ key: String, _ file: String
    ) throws -> [String: [ChangeEvent]] {
        guard case .mapping(let tables, _) = node else {
            return try node.words(key, file).reduce(into: [:]) { $0[$1] = [] }
        }
        return try tables.reduce(into: [:]) { found, table in
            found[table.key] = try table.value.words(table.key, file).map { word in
                guard let event = ChangeEvent.allCases.first(where: { $0.word == word }) else {
                    throw ConfigurationError(
                        file, table.keyLine, "'\(word)' is not an event of the table '\(table.key)'",
                        hint: "the events are \(ChangeEvent.allCases.map(\.word).joined(separator: ", "))")
                }
                return event
            }
        }
    }
}
