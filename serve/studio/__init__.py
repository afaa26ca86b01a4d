"""The page people render on: Gradio at /studio, on the gateway's own application and its `RenderService`.

page        what is on it, and what a click does
session     one click of Render: from the form's values to what the page shows while it runs
playbacks   renders under way and lately ended, as their video element reads them
curves      speech, mouth opening and motion as a drawing
guard       what of Gradio's own HTTP surface is let through
mount       all of it onto the gateway
"""
