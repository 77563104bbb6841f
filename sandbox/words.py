"""The pages' words in both languages, and which language a visitor gets."""

from __future__ import annotations

from aiohttp import web

LANGUAGES = {"en": "EN", "zh": "中文"}

_WORDS: dict[str, tuple[str, str]] = {
    "sandbox": ("Sandbox", "沙箱"),
    "messages": ("Messages", "消息"),
    "inbox": ("Live inbox", "实时收件箱"),
    "lead": (
        "Everything Tongda hands over to this machine’s stand-ins ends up here. Nothing leaves it.",
        "通达交给本机替身服务的一切都会出现在这里，不会真正发出。",
    ),
    "smtp": ("SMTP", "SMTP"),
    "hook": ("Webhook", "Webhook"),
    "filter": ("Filter by recipient, subject, delivery", "按收件人、标题、投递编号筛选"),
    "filter_short": ("Filter …", "筛选……"),
    "seen": ("seen", "条"),
    "taken": ("taken", "收下"),
    "not_taken": ("not taken", "未收下"),
    "more": ("Show more", "显示更多"),
    "empty_record": ("Empty", "清空"),
    "clear_sure": ("Empty the record? Messages here are gone for good.", "清空记录？这里的消息将无法恢复。"),
    "none": ("Nothing has arrived yet", "还没有收到消息"),
    "none_hint": ("Send something, and it shows up here at once.", "发送一条消息，它会立刻出现在这里。"),
    "none_match": ("Nothing matches", "没有匹配的消息"),
    "gone": ("This message is no longer kept.", "这条消息已不再保留。"),
    "back": ("All messages", "全部消息"),
    "preview": ("Preview", "预览"),
    "text": ("Text", "纯文本"),
    "written": ("Text", "正文"),
    "jump": ("Send ↓", "发送 ↓"),
    "headers": ("Headers", "邮件头"),
    "request_headers": ("Headers", "请求头"),
    "source": ("Source", "源码"),
    "body": ("Body", "内容"),
    "to": ("To", "收件人"),
    "delivery": ("Delivery", "投递编号"),
    "attempt": ("Attempt", "第几次"),
    "received": ("Received", "收到时间"),
    "answered": ("Answered", "应答"),
    "why": ("Why", "原因"),
    "signature": ("Signature", "签名"),
    "size": ("Size", "大小"),
    "bytes": ("{count} bytes", "{count} 字节"),
    "behaviour": ("Behaviour", "行为"),
    "no_subject": ("(no subject)", "（无标题）"),
    "not_read": ("The attempt ended before a message was read.", "尚未读到消息，连接就已结束。"),
    "no_answer": ("none", "无"),
    "remote_off": ("Scripts and remote content are switched off.", "脚本与远程内容已禁用。"),
    "try": ("Send a message", "发送一条消息"),
    "try_hint": (
        "Goes through the whole service: API, Temporal workflow, provider.",
        "走完整条链路：API、Temporal 工作流、服务商。",
    ),
    "channel": ("Channel", "渠道"),
    "email": ("E-mail", "邮件"),
    "webhook": ("Webhook", "Webhook"),
    "inapp": ("In-app", "站内信"),
    "recipient": ("Recipient", "收件人"),
    "title": ("Title", "标题"),
    "send": ("Send", "发送"),
    "sending": ("Sending …", "正在发送……"),
    "failed": ("Not sent", "未发送"),
    "workflow": ("its workflow", "查看工作流"),
    "title_value": ("Hello from Tongda", "来自通达的问候"),
    "text_value": ("Your order A-77 has been shipped.", "您的订单 A-77 已发货。"),
    "fail_title": ("Try failures by hand", "亲手试试各种失败"),
    "fail_hint": (
        "The recipient’s name decides: bounce@any.domain (or bounce+anything@), /hook/bounce (or /hook/bounce-anything). "
        "Pick a word to put it into the form. Any other name is accepted.",
        "由收件人的名字决定：bounce@任意域名（或 bounce+任意@），/hook/bounce（或 /hook/bounce-任意）。"
        "点击一个词即可填入表单；其他名字一律接受。",
    ),
    "word": ("Word", "词"),
    "meaning": ("What it stands for", "含义"),
    "then": ("{reply}, then accepted", "先 {reply}，之后接受"),
    "third": ("every 3rd: {reply}", "每第三次：{reply}"),
    "after": ("accepted after 3 s", "3 秒后接受"),
    "silence": ("no answer", "不回答"),
    "dropped_smtp": ("closed after the final dot", "收到结束点后断开"),
    "dropped_http": ("closed after the request", "读完请求后断开"),
    "reset_smtp": ("TCP reset at RCPT", "RCPT 时 TCP 重置"),
    "reset_http": ("TCP reset at the head", "读到请求头时 TCP 重置"),
    "drop_reset_smtp": ("TCP reset after the final dot", "收到结束点后 TCP 重置"),
    "drop_reset_http": ("TCP reset after the request", "读完请求后 TCP 重置"),
    "garbled": ("taken, unreadable answer", "收下，但回答无法解析"),
    "html_page": ("{reply}, an HTML page", "{reply}，内容是 HTML 页面"),
    "set_up": (
        "Set TONGDA_API_URL and TONGDA_KEY_FILE (a file with an API key) for the sandbox, and this works from here.",
        "为沙箱设置 TONGDA_API_URL 和 TONGDA_KEY_FILE（存放 API 密钥的文件），即可在此使用。",
    ),
    "set_up_title": ("Not connected to Tongda’s API", "尚未连接通达 API"),
    "user": ("User", "用户"),
    "open": ("Open", "打开"),
    "unread": ("unread", "未读"),
    "live": ("live", "已连接"),
    "connecting": ("connecting …", "正在连接……"),
    "lost": ("connection lost, trying again …", "连接中断，正在重试……"),
    "absent": ("no such user", "没有此用户"),
    "absent_hint": (
        "No user has this id. Create one with POST /v1/users (or ./scripts/tongda users create), or open u-demo.",
        "没有使用此编号的用户。请用 POST /v1/users（或 ./scripts/tongda users create）创建，或打开 u-demo。",
    ),
    "inbox_lead": ("What {user} sees inside your application, as it happens.", "{user} 在您的应用里实时看到的内容。"),
    "inbox_empty": ("No messages", "没有消息"),
    "inbox_hint": ("Send one with the form; it appears without reloading.", "用表单发送一条，无需刷新即可看到。"),
    "mark_read": ("Mark read", "标为已读"),
    "archive": ("Archive", "归档"),
    "follow": ("Open link", "打开链接"),
    "new_message": ("New message", "新消息"),
    "verdict_accepted": ("accepted", "已接受"),
    "verdict_refused": ("refused", "已拒绝"),
    "verdict_greylisted": ("greylisted", "灰名单"),
    "verdict_dropped": ("dropped", "收下后断开"),
    "verdict_reset": ("reset", "已重置"),
    "verdict_hung": ("no answer", "不回答"),
    "verdict_abandoned": ("abandoned", "对方已离开"),
    "verdict_garbled": ("garbled", "乱码应答"),
    "verdict_redirected": ("redirected", "重定向"),
    "signature_valid": ("valid", "有效"),
    "signature_invalid": ("invalid", "无效"),
    "signature_unchecked": ("unchecked", "未检查"),
    "status_accepted": ("accepted", "已受理"),
    "status_scheduled": ("scheduled", "已计划"),
    "status_processing": ("processing", "处理中"),
    "status_sent": ("sent", "已发送"),
    "status_delivered": ("delivered", "已送达"),
    "status_read": ("read", "已读"),
    "status_failed": ("failed", "失败"),
    "status_expired": ("expired", "已过期"),
    "status_cancelled": ("cancelled", "已取消"),
    "status_suppressed": ("suppressed", "被抑制"),
    "status_unknown": ("unknown", "结果未知"),
    "trying": ("will be tried again", "稍后重试"),
}


def words(language: str) -> dict[str, str]:
    """All words in `en` or `zh`."""
    place = 1 if language == "zh" else 0
    return {name: both[place] for name, both in _WORDS.items()}


_IN_SCRIPTS = (
    "absent", "absent_hint", "archive", "clear_sure", "connecting", "failed", "follow", "live", "lost", "mark_read",
    "new_message", "no_subject", "sending", "trying", "unread",
)  # fmt: skip


def script_words(language: str) -> dict[str, str]:
    """Those that the scripts use."""
    return {name: word for name, word in words(language).items() if name in _IN_SCRIPTS or name.startswith("status_")}


def language_of(request: web.Request) -> str:
    """`?lang=`, else the cookie that an earlier `?lang=` left, else the best of Accept-Language, else English."""
    for chosen in (request.query.get("lang"), request.cookies.get("lang")):
        if chosen in LANGUAGES:
            return chosen
    return accepted(request.headers.get("Accept-Language", ""))


def accepted(header: str) -> str:
    """The language of ours that an Accept-Language header likes best; English in doubt."""
    best, best_weight = "en", 0.0
    for choice in header.split(","):
        tag, _, parameter = choice.strip().partition(";")
        name = tag.partition("-")[0].lower()
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter.strip() else 1.0
        except ValueError:
            continue
        if name in LANGUAGES and weight > best_weight:
            best, best_weight = name, weight
    return best
