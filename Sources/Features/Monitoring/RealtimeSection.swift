import Kernel
import Reporting

/// How a system announces changes to subscribers.
struct Realtime: Sendable, Equatable {
    /// The tables whose triggers notify a channel, by channel.
    var channels: [String: [String]] = [:]
    /// The tables that belong to a publication, by publication.
    var publications: [String: [String]] = [:]
}

/// The key `realtime` in a `system.yaml`.
enum RealtimeSection {
    static let section = SystemSection<Realtime>(
        "realtime",
        "How subscribers hear of changes: `channels`, a map of channels of NOTIFY to the tables whose triggers notify "
            + "them, and `publications`, a map of publications to their tables. The tables are in the system's schema.",
        example: "realtime: {channels: {order_updates: orders}, publications: {live: [orders, items]}}", read: read)

    static func read(_ node: YAMLNode, _ file: String) throws -> Realtime {
        let known = ["channels", "publications"]
        guard case .mapping(let entries, _) = node else {
            throw ConfigurationError(
                file, node.line, "'realtime' must be a map with \(known.joined(separator: " and "))")
        }
        var realtime = Realtime()
        for entry in entries {
            switch entry.key {
            case "channels": realtime.channels = try tables(of: entry.value, entry.key, file)
            case "publications": realtime.publications = try tables(of: entry.value, entry.key, file)
            default:
                throw ConfigurationError(
                    file, entry.keyLine, "unknown key 'realtime.\(entry.key)'",
                    hint: didYouMean(entry.key, among: known) ?? "write \(known.joined(separator: " or "))")
            }
        }
        return realtime
    }

    private static func tables(of node: YAMLNode, _ key: String, _ file: String) throws -> [String: [String]] {
        guard case .mapping(let entries, _) = node else {
            throw ConfigurationError(
                file, node.line, "'realtime.\(key)' must be a map of names, each with one table or a list of tables")
        }
        return try entries.reduce(into: [:]) { $0[$1.key] = try $1.value.words($1.key, file) }
    }
}
