import Foundation

/// Files that come with the program: beside its sources, or below `share/reeve` where it is installed.
public enum ShippedFiles {
    /// The absolute path of a file or folder of the repository; nil where it was not installed.
    public static func path(_ relative: String) -> String? {
        let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var place = executable.deletingLastPathComponent()
        for _ in 0..<5 {
            for inner in ["share/reeve/\(relative)", relative] {
                let candidate = place.appendingPathComponent(inner).path
                if FileManager.default.fileExists(atPath: candidate) { return candidate }
            }
            place = place.deletingLastPathComponent()
        }
        return nil
    }
}

/// The systems that come with the program.
public enum ShippedSystems {
    /// The folder of their folders.
    public static let folder: String? = ShippedFiles.path("migrations/platform/system.yaml").map { file in
        URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent().path
    }

    public static var names: [String] {
        guard let folder else { return [] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/system.yaml") }.sorted()
    }
}
